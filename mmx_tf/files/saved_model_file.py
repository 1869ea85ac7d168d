"""A SavedModel folder of Keras 2, read for its layers and numbers alone.

    >>> load("exported").output_shape      # a tf_keras model
    (None, 10)

A SavedModel has functions, which can do anything that TensorFlow can. They are neither loaded nor run: the
network is built anew from the config that Keras puts beside them, which is checked first, and its variables
are found by the tree of objects in the checkpoint, of which the network is the root.
"""

import json
import os

import tensorflow as tf
import tf_keras as keras
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2, trackable_object_graph_pb2
from tf_keras.protobuf import saved_metadata_pb2

from mmx_tf.files import legacy_config
from mmx_tf.files.safe_config import UnsafeFileError
from mmx_tf.formats.paths import DAMAGE
from mmx_tf.formats.refused import FormatError, refusal

_METADATA, _SAVED_MODEL, _VARIABLES = "keras_metadata.pb", "saved_model.pb", "variables/variables"
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_OURS = "_tf_keras_"


def load(path: str) -> keras.Model:
    """Loads a functional or Sequential network from its SavedModel folder.

    Raises:
      FormatError: if Keras 2 did not write it, tf_keras cannot build it, or weights of it are missing.
      UnsafeFileError: if it names what is not built from a file.
      ValueError: if it is damaged.
    """
    name = repr(path)
    try:
        described = _description(path)
        network = legacy_config.network_of(described, name)
        shape = described.get("build_input_shape")
        if not network.built and isinstance(shape, dict):
            network.build(shape.get("items"))
        _restore(network, os.path.join(path, _VARIABLES), name)
    except (FormatError, UnsafeFileError):
        raise
    except (TypeError, AttributeError, IndexError, DecodeError, tf.errors.OpError, *DAMAGE) as error:
        raise ValueError(f"{name} is not a whole SavedModel of a Keras 2 model: {error}") from error
    return network


def _description(path: str) -> dict:
    """What Keras notes of the network: its class and config, and the shape that it was built for."""
    notes = _notes(path)
    if not notes:
        raise refusal("functions", path)
    found = json.loads(notes[0])
    if not isinstance(found, dict):
        raise FormatError(f"{path!r} has no config of a network.")
    return {key: found.get(key) for key in ("class_name", "config", "build_input_shape")}


def _notes(path: str) -> list[str]:
    """What Keras notes of the root, if it does: in its own file, or before TensorFlow 2.5 in the graph."""
    own = os.path.join(path, _METADATA)
    if os.path.exists(own):
        with open(own, "rb") as file:
            nodes = saved_metadata_pb2.SavedMetadata.FromString(file.read()).nodes
        roots = [node for node in nodes if node.node_id == 0]
    else:
        with open(os.path.join(path, _SAVED_MODEL), "rb") as file:
            graphs = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
        roots = [
            graph.object_graph_def.nodes[0].user_object for graph in graphs if graph.object_graph_def.nodes
        ]
    return [root.metadata for root in roots if root.identifier.startswith(_OURS) and root.metadata]


def _restore(network: keras.Model, prefix: str, name: str) -> None:
    """Gives all weights of a network their numbers in a checkpoint."""
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    keys = _keys(network, reader)
    for weight in network.weights:
        key = keys.get(id(weight))
        if key is None or tuple(shapes.get(key, ())) != tuple(weight.shape):
            found = "no numbers" if key is None else f"numbers of shape {tuple(shapes.get(key, ()))}"
            raise FormatError(
                f"{name} has {found} for {weight.name}, of shape {tuple(weight.shape)}: it is not whole."
            )
        weight.assign(reader.get_tensor(key))
    for layer in network._flatten_layers():
        layer.finalize_state()


def _keys(network: keras.Model, reader) -> dict[int, str]:
    """Id of a variable -> its key in the checkpoint: both have the same path of names from the network."""
    objects = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(_OBJECTS)).nodes
    view = tf.train.TrackableView(network)
    keys, seen, pairs = {}, set(), [(network, 0)]
    while pairs:
        ours, index = pairs.pop()
        if (id(ours), index) in seen:
            continue
        seen.add((id(ours), index))
        for attribute in objects[index].attributes:
            keys.setdefault(id(ours), attribute.checkpoint_key)
        children = view.children(ours)
        pairs += [
            (children[child.local_name], child.node_id)
            for child in objects[index].children
            if child.local_name in children
        ]
    return keys
