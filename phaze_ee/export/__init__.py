"""Export of a tagger with its exits to one ONNX file.

The file is written by the walk that trains and runs the tagger: heads, links and scores are called with
:class:`~phaze_ee.export.values.Value`, whose operations write nodes instead of computing. Only the backbones have their
own patterns of nodes, one module each.
"""
