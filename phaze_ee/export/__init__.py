"""Export of a tagger with its exits to one ONNX file.

The file is written by the walk that trains and runs the tagger: heads, links and scores are called with
:class:`~phaze_ee.export.values.Value`, whose operations write nodes instead of computing. Only the backbones have their
own patterns of nodes, one module each.
"""

from importlib.util import find_spec

from phaze_ee.errors import UsageError
from phaze_ee.installation import extra_command


def require_onnx() -> None:
    """Check that onnx and ONNX Runtime are installed.

    Raises:
        UsageError: they are not; the message has the command that installs them.
    """
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        raise UsageError(
            f"export needs onnx and onnxruntime, which this environment lacks; install them, {extra_command('onnx')}"
        )
