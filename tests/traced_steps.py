"""What a traced training step computes: its operations less those that TensorFlow drops."""

import re
from collections.abc import Iterator

_COMPILED_NAME = re.compile(r"__(?:inference|forward|backward)_(.+)_\d+")


def steps_of(model) -> list:
    """The functions that Keras makes of a model's training step from now on; a run forgets its own."""
    made, make = [], model.make_train_function

    def making(*args, **kwargs):
        made.append(make(*args, **kwargs))
        return made[-1]

    model.make_train_function = making
    return made


def computed(step_function) -> list[tuple[str, str]]:
    """(scope, operation) of all that a training step, which was traced once, computes.

    A function that XLA compiles is one operation, its own name in Python; all others are types of TensorFlow.
    Loops and conditionals are looked into. What nothing reads that the step gives, keeps or checks is not
    among it, though it is in the graph.
    """
    (step,) = step_function._list_all_concrete_functions()
    library = {function.signature.name: function for function in step.graph.as_graph_def().library.function}
    return list(_computed(step.function_def, library))


def _computed(function, library) -> Iterator[tuple[str, str]]:
    nodes = {node.name: node for node in function.node_def}
    pending, needed = [*function.ret.values(), *function.control_ret.values()], {}
    while pending:
        name = pending.pop().lstrip("^").partition(":")[0]
        # What is no node is an argument of the function.
        if name in nodes and name not in needed:
            needed[name] = nodes[name]
            pending.extend(nodes[name].input)
    for node in needed.values():
        called = [one for value in node.attr.values() for one in (value.func, *value.list.func) if one.name]
        scope = node.name.rpartition("/")[0]
        if not called:
            yield scope, node.op
        for inner in called:
            body = library[inner.name]
            if body.attr["_XlaMustCompile"].b:
                yield scope, _COMPILED_NAME.fullmatch(inner.name)[1]
            else:
                yield from _computed(body, library)
