"""Linear models as graphs of ONNX, for servers that hash features themselves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headrace.learners.exact import ExactLearner
from headrace.learners.learner import Learner
from headrace.learners.models.ftrl import FtrlModel
from headrace.learners.models.sgd import SgdModel
from headrace.learners.models.small import SmallModel
from headrace.learners.weights import touched_weights

_OPSET = 18
_MOST_BITS = 28
"""A file of ONNX has less than 2 GB."""


def linear_graph(learner: Learner, about: Mapping[str, str]) -> bytes:
    """Return the graph of a linear learner, as the contents of a file.

    Its inputs are the features of n rows as `headrace.learners.features.FeatureRows` has them:
    ``starts`` (int64, shape (n + 1,)), ``indices`` (int64, shape (m,)) and ``values`` (float32,
    shape (m,)); and ``shift`` (float64, shape (n,)), which is added to the log-odds. Its outputs
    are ``margin`` and ``p``, float64, shape (n,). Each row has a feature, the intercept.

    Parameters
    ----------
    learner
        FTRL or SGD: their log-odds are a sum of weights times values.
    about
        Entries of the graph's metadata.

    Raises
    ------
    ValueError
        If the learner is another one, or too large for a file; after ``;`` is a hint.
    ModuleNotFoundError
        If the package onnx is not installed.
    """
    import onnx  # an extra
    from onnx import TensorProto, helper, numpy_helper

    if isinstance(learner, ExactLearner | SmallModel):
        raise ValueError("has no hashed table of full weights; export a model that has one")
    if not isinstance(learner, FtrlModel | SgdModel):
        raise ValueError("is not linear; ONNX is written of ftrl and sgd")
    if learner.bits > _MOST_BITS:
        raise ValueError(f"has {learner.bits} bits; ONNX files hold at most {_MOST_BITS}")
    weights = np.zeros(1 << learner.bits, np.float32)
    for index, weight in touched_weights(learner):
        weights[index] = weight
    # FTRL rounds a product to 32 bits before it adds it up.
    early = TensorProto.FLOAT if isinstance(learner, FtrlModel) else TensorProto.DOUBLE
    node = helper.make_node
    nodes = [
        # Where a row begins, all features from there on are of a row more.
        node("Slice", ["starts", "one", "last"], ["begins"]),
        node("Shape", ["begins"], ["begin_count"]),
        node("Shape", ["indices"], ["feature_count"]),
        node("Shape", ["shift"], ["row_count"]),
        node("Expand", ["one", "begin_count"], ["ones"]),
        node("Expand", ["zero", "feature_count"], ["none"]),
        node("ScatterElements", ["none", "begins", "ones"], ["marks"], reduction="add"),
        node("CumSum", ["marks", "first_axis"], ["row"]),
        node("Gather", ["weights", "indices"], ["weight"]),
        node("Cast", ["weight"], ["factor"], to=early),
        node("Cast", ["values"], ["other"], to=early),
        node("Mul", ["factor", "other"], ["product"]),
        node("Cast", ["product"], ["effect"], to=TensorProto.DOUBLE),
        node("Expand", ["nothing", "row_count"], ["sums"]),
        node("ScatterElements", ["sums", "row", "effect"], ["own"], reduction="add"),
        node("Add", ["own", "shift"], ["margin"]),
        node("Sigmoid", ["margin"], ["p"]),
    ]
    constants = {
        "weights": weights,
        "zero": np.zeros(1, np.int64),
        "one": np.ones(1, np.int64),
        "last": np.array([-1]),
        "first_axis": np.array(0),
        "nothing": np.zeros(1),
    }
    vector = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "headrace",
        [
            vector("starts", TensorProto.INT64, ["starts"]),
            vector("indices", TensorProto.INT64, ["features"]),
            vector("values", TensorProto.FLOAT, ["features"]),
            vector("shift", TensorProto.DOUBLE, ["rows"]),
        ],
        [vector(name, TensorProto.DOUBLE, ["rows"]) for name in ("margin", "p")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="headrace"
    )
    # Of what the graph needs, so that runtimes of some years ago read it too.
    model.ir_version = 8
    helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
