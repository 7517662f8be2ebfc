"""Data YAMLs in the shapes of public ones: CMS, FCC-ee, JetClass, top, quark and gluon, taus, leptons, whole events.

Each is made of a few pieces, and each has something that the others lack.
"""

from collections.abc import Iterable
from typing import Any


def group(name: str, variables: Iterable[str], length: Any = 16, **more: Any) -> str:
    """Return an input group; a variable is the text of its entries: ``"pt_log, 1.7, 0.7"``."""
    extra = "".join(f"    {key}: {value}\n" for key, value in more.items())
    listed = "".join(f"      - [{entries}]\n" for entries in variables)
    return f"  {name}:\n    length: {length}\n{extra}    vars:\n{listed}"


def particles(
    prefix: str, features: Iterable[str], length: Any = 16, *, kinds: str = "points features mask", **more: Any
) -> str:
    """Return the groups of one collection, whose variables are ``<prefix>_eta`` and so on."""
    own = {
        "points": [f"{prefix}_eta, null", f"{prefix}_phi, null"],
        "features": [entries.replace("~", prefix) for entries in features],
        "vectors": [f"{prefix}_{name}, null" for name in ("px", "py", "pz", "energy")],
        "mask": [f"{prefix}_mask, null"],
    }
    padded = {kind: {} if kind == "mask" else more for kind in own}
    return "".join(group(f"{prefix}_{kind}", own[kind], length, **padded[kind]) for kind in kinds.split())


def simple(*labels: str) -> str:
    return "labels:\n  type: simple\n  value: [" + ", ".join(f'"{label}"' for label in labels) + "]\n"


def variables(**formulas: str) -> str:
    quoted = {name: f'"{text}"' if ": " in text else text for name, text in formulas.items()}
    return "new_variables:\n" + "".join(f"  {name}: {formula}\n" for name, formula in quoted.items())


def inputs(*groups: str) -> str:
    return "inputs:\n" + "".join(groups)


MASK = {"pf_mask": "ak.ones_like(pf_eta)"}
KINEMATIC = ["~_logpt, 1, 0.5", "~_loge, 1.3, 0.5", "~_eta, null", "~_phi, null"]
TRACKS = [*KINEMATIC, "~_charge, null", "~_d0, 0, 20, -1, 1", "~_d0err, 0, 10, 0, 1", "~_quality, 0, 1, -5, 5, -9"]
PLAIN = inputs(particles("pf", KINEMATIC))
VECTORS = inputs(particles("pf", TRACKS, kinds="points features vectors mask", pad_mode="wrap"))
MANUAL = "preprocess:\n  method: manual\n  data_fraction:\n"
CMS_FLAVOURS = ("label_bb", "label_cc", "label_qq", "label_qcd")
WEIGHTS = """weights:
  use_precomputed_weights: false
  reweight_method: flat
  reweight_vars:
    fj_pt: [200, 400, 700, 2000]
    fj_sdmass: [0, 60, 110, 500]
  reweight_classes: [label_bb, label_qcd]
  class_weights: [1, 0.5]
  reweight_threshold: 15
  reweight_discard_under_overflow: false
"""
SELECTION = """selection:
  ### only the two leading jets, and no jets of the last seventh
  (fj_no<2) & (fj_pt>200) & (fj_pt<2500)
  & ( (label_qcd==1) | (fj_sdmass<300) ) & (event_no%7!=0)
test_time_selection: >-
  (fj_no<2) & (fj_pt>200)
  & (event_no%7==0 | (event_no>0))
"""

COLLECTION = {
    # CMS, large-radius jets
    "ak8": SELECTION
    + MANUAL
    + variables(**MASK)
    + PLAIN
    + simple(*CMS_FLAVOURS)
    + "observers: [fj_pt, fj_eta, event_no]\n"
    + WEIGHTS,
    "ak8_ref": MANUAL + variables(**MASK) + PLAIN + simple(*CMS_FLAVOURS) + WEIGHTS.replace("flat", "ref"),
    "ak8_base_weight": variables(**MASK)
    + PLAIN
    + simple(*CMS_FLAVOURS)
    + WEIGHTS
    + "  reweight_basewgt: np.abs(genweight)\n",
    "ak8_own_weights": variables(**MASK)
    + PLAIN
    + simple(*CMS_FLAVOURS)
    + "weights:\n  use_precomputed_weights: true\n  weight_branches: [genweight, xsec_weight]\n",
    "ak8_no_weights": variables(**MASK)
    + PLAIN
    + simple(*CMS_FLAVOURS)
    + "weights:\n  use_precomputed_weights: false\n  reweight_method: flat\n  reweight_basewgt:\n  class_weights:\n"
    "  reweight_vars: {fj_pt: [0, 9.0e+9], fj_eta: [-9, 9]}\n  reweight_classes: [label_bb]\n",
    "ak8_expressions": variables(
        label_Hbb="(truth==1) & (fj_sdmass>-1)", label_rest="np.logical_not(label_Hbb)", **MASK
    )
    + PLAIN
    + simple("label_Hbb", "label_rest"),
    "ak8_in_label": variables(**MASK) + PLAIN + simple("truth==0", "truth!=0"),
    "ak15": "treename: Events\n"
    + variables(pf_mask="awkward.ones_like(pf_eta)")
    + inputs(particles("pf", KINEMATIC, 12, pad_mode="WRAP"))
    + simple("label_bb", "1-label_bb"),
    "ak15_auto": "preprocess:\n  method: auto\n  data_fraction: 0.5\n"
    + variables(**MASK)
    + inputs(particles("pf", ["~_logpt", "~_loge, 1.3, 0.5", "~_d0, null"]))
    + simple(*CMS_FLAVOURS),
    "ak15_auto_word": variables(**MASK)
    + inputs(particles("pf", ["~_logpt, auto", "~_loge, auto, 1, -1, 1"]))
    + simple(*CMS_FLAVOURS),
    "ak8_sv": variables(sv_mask="ak.ones_like(sv_eta)", **MASK)
    + inputs(particles("pf", TRACKS), particles("sv", KINEMATIC, 5))
    + simple(*CMS_FLAVOURS),
    "ak8_sv_vectors": variables(sv_mask="ak.ones_like(sv_eta)", **MASK)
    + inputs(
        particles("pf", TRACKS, kinds="features vectors mask"),
        particles("sv", KINEMATIC, 5, kinds="features vectors mask"),
    )
    + simple(*CMS_FLAVOURS),
    # CMS, small-radius jets and trigger
    "ak4": variables(pf_logpt="np.log(pf_pt)", pf_loge="np.log(pf_energy)", **MASK)
    + PLAIN
    + simple("is_b", "is_c", "is_light"),
    "ak4_part": variables(
        pf_px="pf_pt*np.cos(pf_phi)", pf_py="pf_pt*np.sin(pf_phi)", pf_pz="pf_pt*np.sinh(pf_eta)", **MASK
    )
    + inputs(particles("pf", TRACKS, kinds="features vectors mask", pad_mode="wrap"))
    + simple("is_b", "is_c", "is_light"),
    "ak4_no_vectors": variables(**MASK)
    + inputs(particles("pf", TRACKS, kinds="features mask"))
    + simple("is_b", "is_c", "is_light"),
    "ak4_sv_lt": variables(sv_mask="ak.ones_like(sv_eta)", lt_mask="ak.ones_like(lt_eta)", **MASK)
    + inputs(particles("pf", TRACKS), particles("sv", KINEMATIC, 5), particles("lt", KINEMATIC, 3))
    + simple("is_b", "is_c", "is_light"),
    "ak4_magic": "branch_magic: {cand_: pf_}\nfile_magic: {is_b: {jets: 1}, is_c: {nothing: 1}}\n"
    + variables(cand_mask="ak.ones_like(cand_eta)")
    + inputs(particles("cand", KINEMATIC))
    + simple("is_b", "is_c"),
    "ak4_flavour": variables(
        is_b="np.abs(flavour)==5",
        is_c="np.abs(flavour)==4",
        is_rest="(np.abs(flavour)!=5) & (np.abs(flavour)!=4)",
        **MASK,
    )
    + PLAIN
    + simple("is_b", "is_c", "is_rest"),
    "hlt_ak4": "treename:\nselection:\ntest_time_selection:\nbranch_magic:\nfile_magic:\nbucketing:\n"
    + MANUAL
    + variables(**MASK)
    + PLAIN
    + simple("is_b", "is_c", "is_light")
    + "observers:\nmonitor_variables:\nweights:\n",
    "hlt_ak8": "selection: jet_pt > 0\n"
    + variables(**MASK)
    + inputs(particles("pf", ["~_logpt, 1, 0.5, -5, 5, 0, 1.5", "~_d0, null, 1, -5, 5, 0, -1, 1"]))
    + simple("is_b", "is_c", "is_light"),
    "hlt_monitors": variables(**MASK)
    + PLAIN
    + simple("is_b", "is_c", "is_light")
    + "monitor_variables: [jet_pt, jet_eta]\n",
    "hlt_test_selection": "test_time_selection: (jet_pt > 0) & (event_no % 2 == 0)\n"
    + variables(**MASK)
    + PLAIN
    + simple("is_b", "is_c", "is_light"),
    "hlt_bucketing": variables(multiplicity="ak.num(pf_eta)", **MASK)
    + PLAIN
    + simple("is_b", "is_c")
    + "bucketing: {var: multiplicity, bins: 3}\n",
    # FCC-ee
    "fcc": variables(pf_mask="ak.ones_like(pf_energy)", pf_isMu="pf_pid==13")
    + inputs(particles("pf", [*TRACKS, "~_isMu, null"], 16, pad_mode="wrap"))
    + simple("recojet_isB", "recojet_isC", "recojet_isS", "recojet_isU", "recojet_isG"),
    "fcc_tau": variables(pf_erel="pf_energy/jet_energy", pf_mask="ak.ones_like(pf_erel)")
    + inputs(particles("pf", ["~_erel, 0, 2e-1, -1e1, 1e+1", "~_eta"]))
    + simple("recojet_isB", "recojet_isTAU"),
    "fcc_auto_file": "preprocess:\n  method: auto\n  data_fraction: null\n  params:\n"
    + "".join(
        f"    {name}: {{center: {center}, length: 16, max: 5, min: -5, pad_mode: constant, pad_value: 0, "
        f"scale: {scale}}}\n"
        for name, center, scale in [
            ("pf_eta", "null", 1),
            ("pf_phi", "null", 1),
            ("pf_logpt", 0.9, 1.3),
            ("pf_loge", 1.1, 0.8),
            ("pf_mask", "null", 1.0),
        ]
    )
    + variables(**MASK)
    + PLAIN
    + simple("recojet_isB", "recojet_isC"),
    "fcc_merge_keys": variables(**MASK)
    + "inputs:\n  pf_points: &same\n    length: 16\n    pad_mode: wrap\n    vars: [[pf_eta, null], [pf_phi, null]]\n"
    "  pf_features: {<<: *same, vars: [pf_eta, pf_phi, [pf_logpt]]}\n"
    "  pf_mask: {length: 16, vars: [[pf_mask]]}\n" + simple("recojet_isB", "recojet_isC"),
    # JetClass
    "jetclass": variables(
        part_pt="np.hypot(part_px, part_py)",
        part_logpt="np.log(part_pt)",
        part_loge="np.log(part_energy)",
        part_deltaR="np.hypot(part_eta, part_phi)",
        part_logptrel="np.log(part_pt/jet_pt)",
        part_mask="ak.ones_like(part_energy)",
    )
    + inputs(
        particles(
            "part",
            [*KINEMATIC, "~_logptrel, -4.7, 0.7", "~_deltaR, 0.2, 4.0"],
            kinds="points features vectors mask",
            pad_mode="wrap",
        )
    )
    + simple("label_QCD", "label_Hbb", "label_Tbqq")
    + "observers: [jet_pt, jet_eta, jet_sdmass]\n",
    "jetclass_tracks": variables(
        part_d0="np.tanh(part_d0val)", part_d0err="_clip(part_d0errval, 0, 1)", part_mask="ak.ones_like(part_energy)"
    )
    + inputs(
        particles("part", ["~_d0, null", "~_d0err, 0, 1, 0, 1"], kinds="points features vectors mask", pad_mode="wrap")
    )
    + simple("label_QCD", "label_Hbb"),
    "jetclass_no_mask": inputs(particles("part", ["~_energy, 2, 0.7"], kinds="points features"))
    + simple("label_QCD", "label_Hbb"),
    "jetclass_helpers": variables(
        part_p4="_p4_from_pxpypze(part_px, part_py, part_pz, part_energy)",
        part_m="part_p4.mass",
        part_rapidity="part_p4.eta",
        part_mask="ak.ones_like(part_px)",
    )
    + inputs(particles("part", ["~_m, 0, 1", "~_rapidity, 0, 1"]))
    + simple("label_QCD", "label_Hbb"),
    "jetclass_single": inputs(
        group("part_features", ["part_energy, null"], 1), group("part_mask", ["part_real, null"], 1)
    )
    + variables(part_real="part_energy > 0")
    + simple("label_QCD", "label_Hbb"),
    "jetclass2": variables(part_mask="ak.ones_like(part_energy)")
    + inputs(particles("part", KINEMATIC, pad_mode="wrap"))
    + simple(*(f"truth=={number}" for number in range(4))),
    "jetclass2_ranges": "selection: (event_no%7!=0) & (truth>=0)\n"
    + variables(
        flat="ak.where(truth>=3, truth-3, truth)",
        is_one="flat==1",
        is_rest="flat!=1",
        part_mask="ak.ones_like(part_energy)",
    )
    + inputs(particles("part", KINEMATIC))
    + simple("is_one", "is_rest"),
    "jetclass2_number": variables(part_mask="ak.ones_like(part_energy)")
    + inputs(particles("part", KINEMATIC))
    + "labels:\n  type: custom\n  value:\n    class_: ak.values_astype(truth, 'int64')\n  names: [a, b, c, d]\n",
    # top quarks, quarks and gluons
    "top": variables(**MASK) + VECTORS + simple("is_signal", "1-is_signal"),
    "top_as_numbers": variables(**MASK)
    + PLAIN
    + "labels:\n  type: custom\n  value: {is_signal: is_signal}\n  names: [QCD, top]\n",
    "top_bounds": variables(**MASK)
    + inputs(particles("pf", ["~_logpt, 1, 0.5, -.inf, .inf", "~_loge, 1, 0.5, 0, .inf", "~_d0, null, 1, -1, 1"]))
    + simple("is_signal", "1-is_signal"),
    "top_pad_value": variables(**MASK)
    + inputs(particles("pf", ["~_logpt, 1, 0.5, -5, 5, -2", "~_d0, null, 1, -5, 5, 7"]))
    + simple("is_signal", "1-is_signal"),
    "top_short": variables(**MASK)
    + inputs(particles("pf", KINEMATIC, 3, pad_mode="wrap"))
    + simple("is_signal", "1-is_signal"),
    "top_text_numbers": variables(**MASK)
    + inputs(particles("pf", ["~_logpt, '1', '5e-1'", "~_d0, 1e-1, 1e+0"]))
    + simple("is_signal", "1-is_signal"),
    "quark_gluon": variables(is_gluon="np.logical_not(is_quark)", pf_logptrel="np.log(pf_pt/jet_pt)", **MASK)
    + inputs(particles("pf", [*KINEMATIC, "~_logptrel, -4.7, 0.7"], pad_mode="wrap"))
    + simple("is_quark", "is_gluon"),
    "quark_gluon_pid": variables(
        pf_isPhoton="(pf_pid==22)*1.0", pf_isCharged="ak.values_astype(pf_charge!=0, 'float32')", **MASK
    )
    + inputs(particles("pf", ["~_isPhoton, null", "~_isCharged", "~_charge"]))
    + simple("is_quark", "1-is_quark"),
    "quark_gluon_holes": variables(pf_mask="pf_pt > 1.5") + PLAIN + simple("is_quark", "1-is_quark"),
    "quark_gluon_sorted": variables(
        order="ak.argsort(pf_pt, ascending=False)", pf_spt="pf_pt[order]", pf_first="ak.local_index(pf_pt) == 0", **MASK
    )
    + inputs(particles("pf", ["~_spt, 1, 0.5", "~_first"]))
    + simple("is_quark", "1-is_quark"),
    # taus and leptons
    "tau": variables(
        pf_sign="np.sign(pf_charge)*pf_pt", pf_abs="np.abs(pf_d0)", pf_sig="pf_d0/np.maximum(pf_d0err, 1e-3)", **MASK
    )
    + inputs(particles("pf", ["~_sign, 0, 0.1", "~_abs, 0, 10, 0, 1", "~_sig, 0, 0.05, -2, 2"]))
    + simple("is_tau", "is_jet", "is_lep"),
    "tau_globals": variables(**MASK)
    + PLAIN.rstrip("\n")
    + "\n"
    + group("jet_globals", ["jet_pt, 500, 0.01"], "null")
    + simple("is_tau", "is_jet"),
    "tau_more_globals": variables(jet_logpt="np.log(jet_pt)", jet_share="ak.max(pf_pt, axis=1)/jet_pt", **MASK)
    + inputs(particles("pf", KINEMATIC, 9), particles("sv", ["~_mass, 1, 0.5"], 4, kinds="features"))
    + group("jet_globals", ["jet_logpt", "jet_pt, 500, 0.01, -1, 1", "jet_share, 0.5, 2", "is_tau, null"], "null")
    + simple("is_tau", "is_jet")
    + "observers: [jet_pt]\n",
    "tau_isolation": variables(
        iso="ak.sum(pf_pt[pf_charge != 0], axis=1)/jet_pt", pf_iso="ak.ones_like(pf_pt)*iso", **MASK
    )
    + inputs(particles("pf", ["~_iso, 0.5, 1"]))
    + simple("is_tau", "is_jet")
    + "observers: [iso]\n",
    "tau_same_names": variables(pf_eta="pf_eta", jet_pt="jet_pt", **MASK)
    + PLAIN
    + simple("is_tau", "is_jet")
    + "observers: [jet_pt, is_tau]\n",
    "lepton": "selection: (lep_pt > 10) & (np.abs(lep_eta) < 2.5)\n"
    + variables(**MASK)
    + inputs(particles("pf", TRACKS, kinds="features vectors mask"))
    + simple("lep_isPrompt", "lep_isFake"),
    "lepton_cpf_npf": variables(cpf_mask="ak.ones_like(cpf_eta)", npf_mask="ak.ones_like(npf_eta)")
    + inputs(particles("cpf", TRACKS, 9, kinds="features mask"), particles("npf", KINEMATIC, 7, kinds="features mask"))
    + simple("lep_isPrompt", "lep_isFake"),
    "lepton_near": variables(
        pf_dr="np.sqrt((pf_eta-lep_eta)**2 + (pf_phi-lep_phi)**2)", pf_mask="ak.values_astype(pf_dr < 9, 'float32')"
    )
    + inputs(particles("pf", ["~_dr, 0.2, 4"]))
    + simple("lep_isPrompt", "lep_isFake"),
    "lepton_itself": variables(lep_logpt="np.log(lep_pt)", lep_mask="lep_pt > 0", **MASK)
    + inputs(
        particles("pf", TRACKS, kinds="features vectors mask"),
        particles("lep", ["~_logpt, auto", "~_pt, 300, 0.01", "~_eta"], 1, kinds="features vectors mask"),
    )
    + simple("lep_isPrompt", "lep_isFake")
    + "observers: [lep_pt, lep_eta]\n"
    + WEIGHTS.replace("fj_pt", "lep_pt").replace("label_bb, label_qcd", "lep_isPrompt, lep_isFake"),
    # whole events: the particles are jets
    "event": variables(jets_mask="ak.ones_like(jets_pt)", ht="ak.sum(jets_pt, axis=1)", jets_rel="jets_pt/ht")
    + inputs(particles("jets", ["~_rel, 0.5, 2", "~_btag, null"], 8))
    + simple("process==0", "process==1", "process>=2")
    + "observers: [ht, met]\n",
    "event_pairs": variables(
        pairs="ak.combinations(jets_pt, 2)",
        widest="ak.fill_none(ak.max(np.abs(pairs['0']-pairs['1']), axis=1), 0)",
        jets_widest="jets_pt/(1+widest)",
        jets_mask="ak.ones_like(jets_pt)",
    )
    + inputs(particles("jets", ["~_widest, null"], 8))
    + simple("process==0", "process!=0")
    + "observers: [widest]\n",
    "event_leading": variables(
        leading="ak.fill_none(ak.firsts(jets_pt), 0)",
        second="ak.fill_none(ak.pad_none(jets_pt, 2), 0)[:, 1]",
        jets_gap="jets_pt-leading+second",
        jets_mask="ak.ones_like(jets_pt)",
    )
    + inputs(particles("jets", ["~_gap, null"], 8))
    + simple("process==0", "process!=0"),
    "event_any": "selection: ak.any(jets_pt > 1, axis=1) | (ak.num(jets_pt) >= 0)\n"
    + variables(jets_tight="ak.fill_none(ak.mask(jets_pt, jets_btag > 0), 0)", jets_mask="ak.ones_like(jets_pt)")
    + inputs(particles("jets", ["~_tight, null"], 8))
    + simple("process==0", "process!=0"),
    "event_zip": variables(
        both="ak.zip({'pt': jets_pt, 'tag': jets_btag})",
        jets_tagged="both['pt']*both['tag']",
        jets_far="ak.max(ak.cartesian([jets_eta, jets_eta], nested=True)['1'], axis=2) - jets_eta",
        jets_mask="ak.ones_like(jets_pt)",
    )
    + inputs(particles("jets", ["~_tagged, null", "~_far"], 8))
    + simple("process==0", "process!=0"),
    "event_order": variables(
        number="np.arange(len(met))*1.0",
        steps="np.diff(np.cumsum(met), prepend=0)",
        repeated="ak.unflatten(np.repeat(ak.to_numpy(met), ak.to_numpy(ak.num(jets_pt))), ak.num(jets_pt))",
        zero="np.zeros(len(met)) + np.ones(len(met))",
        jets_repeated="repeated + 0*jets_pt",
        jets_mask="ak.ones_like(jets_pt)",
    )
    + inputs(particles("jets", ["~_repeated, 0, 0.01"], 8))
    + simple("process==0", "process!=0")
    + "observers: [steps, zero]\n",
    "event_concatenated": variables(
        jets_lep="ak.concatenate([jets_pt[:, :1], jets_btag[:, 1:]], axis=1)",
        jets_mask="ak.from_regular(ak.ones_like(jets_lep))",
    )
    + inputs(particles("jets", ["~_lep"], 8))
    + simple("process==0", "process!=0"),
    "event_training_flag": variables(jets_noise="jets_pt + aux_training_*1.0", jets_mask="ak.ones_like(jets_pt)")
    + inputs(particles("jets", ["~_noise, null"], 8))
    + simple("process==0", "process!=0"),
}
COLLECTION["windows"] = COLLECTION["ak8"].replace("\n", "\r\n")
COLLECTION["document"] = "---\n# a comment with ümlauts: → none\n" + COLLECTION["tau"] + "...\n"
