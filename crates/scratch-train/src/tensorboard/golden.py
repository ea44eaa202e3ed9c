"""Writes golden.bin: events as TensorBoard's own writer puts them into a file.

    pip install tensorboard==2.21.0
    python golden.py
"""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def scalars(**values):
    return Summary(
        value=[
            Summary.Value(tag=tag.replace("_", "/", 1), simple_value=value)
            for tag, value in values.items()
        ]
    )


EVENTS = [
    Event(wall_time=1.75e9, file_version="brain.Event:2"),
    Event(wall_time=1.75e9, step=301, session_log=SessionLog(status=SessionLog.START)),
    Event(
        wall_time=1.75e9 + 0.5,
        step=310,
        summary=scalars(train_loss=0.25, train_learning_rate=2e-3),
    ),
    Event(
        wall_time=1.75e9 + 1,
        step=2**40 + 5,
        summary=scalars(valid_loss=float("inf"), valid_ä=-0.1),
    ),
]

with open(Path(__file__).with_name("golden.bin"), "wb") as file:
    writer = RecordWriter(file)
    for event in EVENTS:
        writer.write(event.SerializeToString())
    writer.flush()
