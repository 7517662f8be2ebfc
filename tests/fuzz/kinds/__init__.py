"""The kinds of inputs that are tried."""

from tests.fuzz.attempts import Kind
from tests.fuzz.kinds import checkpoints, columns, commands, configurations, documents, expressions, jets, yamls

KINDS = (
    Kind("config", configurations.attempt, 2),
    Kind("yaml", yamls.attempt, 3),
    Kind("expression", expressions.attempt, 3),
    Kind("root", jets.root, 3),
    Kind("parquet", jets.parquet, 2),
    Kind("hdf5", jets.hdf5, 2),
    Kind("columns", columns.attempt, 3),
    Kind("checkpoint", checkpoints.attempt, 3),
    Kind("document", documents.attempt, 2),
    Kind("state", checkpoints.state, 1),
    Kind("cache", documents.cache, 2),
    Kind("prediction", documents.prediction, 1),
    Kind("command", commands.attempt, 2),
)
