"""Which networks can be written into a file, and by what."""

from typing import Any

from phaze_ee.errors import UsageError
from phaze_ee.export.particle_flow_network import FileParticleFlowNetwork
from phaze_ee.export.particle_net import FileParticleNet
from phaze_ee.export.particle_next import FileParticleNeXt
from phaze_ee.export.particle_transformer import FileParticleTransformer
from phaze_ee.export.stages import FileStages
from phaze_ee.models.backbone import Stages
from phaze_ee.models.particle_flow_network import ParticleFlowNetwork
from phaze_ee.models.particle_net.stages import StagedParticleNet
from phaze_ee.models.particle_next import ParticleNeXt
from phaze_ee.models.transformer_stages import StagedParticleTransformer

# A new network is a subclass of FileStages and a line here.
_FORMS: dict[type[Any], type[FileStages]] = {
    StagedParticleNet: FileParticleNet,
    StagedParticleTransformer: FileParticleTransformer,
    ParticleNeXt: FileParticleNeXt,
    ParticleFlowNetwork: FileParticleFlowNetwork,
}


def in_stages(backbone: Stages[Any]) -> type[FileStages]:
    """Return what writes a network into a file.

    Raises:
        UsageError: nothing does.
    """
    found = next((form for kind, form in _FORMS.items() if isinstance(backbone, kind)), None)
    if found is None:
        known = ", ".join(form.name for form in _FORMS.values())
        raise UsageError(f"{backbone.name} cannot be exported: export knows the nodes of {known}")
    return found
