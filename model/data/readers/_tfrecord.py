"""TFRecord files of tf.train.Example messages, without TensorFlow.

Format: a record is its length (uint64), a checksum of the length, the bytes, a checksum of the bytes, all little-endian
(tensorflow.org/tutorials/load_data/tfrecord); the message is that of tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_MASK = 0xA282EAD8


def records(path: Path, places: Iterator[int] | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield place (byte offset) and bytes of records: of all, or of those at the places given.

    Raises:
        ValueError: The file ends within a record, or a checksum is wrong.
    """
    with path.open("rb") as file:
        if places is not None:
            for place in places:
                file.seek(place)
                yield place, _record(file) or b""
            return
        place = 0
        while (record := _record(file)) is not None:
            yield place, record
            place = file.tell()


def _record(file: IO[bytes]) -> bytes | None:
    """Read the next record; None at the end of the file."""
    head = file.read(12)
    if not head:
        return None
    if len(head) < 12:
        raise ValueError("ends within a record")
    size, check = struct.unpack("<QI", head)
    _compare(head[:8], check, file)
    body = file.read(size + 4)
    if len(body) < size + 4:
        raise ValueError("ends within a record")
    _compare(body[:-4], struct.unpack("<I", body[-4:])[0], file)
    return body[:-4]


def checksum(data: bytes) -> int:
    """Return the masked CRC-32C that stands beside bytes."""
    import google_crc32c

    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def _compare(data: bytes, check: int, file: IO[bytes]) -> None:
    if checksum(data) != check:
        raise ValueError(f"checksum of a record before byte {file.tell()} is wrong")


def features(record: bytes) -> dict[str, NDArray[Any] | list[bytes]]:
    """Return the features of a message: float32 and int64 arrays, lists of bytes."""
    feature = message_type().FromString(record).features.feature
    return {name: _values(value) for name, value in feature.items()}


def integer(record: bytes, name: str) -> int:
    """Return one integer feature of a message, and make nothing of the others."""
    value: int = message_type().FromString(record).features.feature[name].int64_list.value[0]
    return value


def _values(feature: Any) -> NDArray[Any] | list[bytes]:
    kind = feature.WhichOneof("kind")
    if kind == "float_list":
        return np.array(feature.float_list.value, np.float32)
    if kind == "int64_list":
        return np.array(feature.int64_list.value, np.int64)
    return list(feature.bytes_list.value)


@cache
def message_type() -> Any:
    """Return the message class tf.train.Example, built from its definition instead of generated code."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    for name, kind in (("BytesList", field.TYPE_BYTES), ("FloatList", field.TYPE_FLOAT), ("Int64List", field.TYPE_INT64)):
        file.message_type.add(name=name).field.add(name="value", number=1, label=field.LABEL_REPEATED, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List"))
    ):
        _add(feature, name, kind, number + 1).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry", options={"map_entry": True})
    entry.field.add(name="key", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    _add(entry, "value", "Feature", 2)
    _add(features, "feature", "Features.FeatureEntry", 1).label = field.LABEL_REPEATED
    _add(file.message_type.add(name="Example"), "features", "Features", 1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def _add(message: Any, name: str, kind: str, number: int) -> Any:
    """Add a field that holds a message of the package, and return it."""
    field = message.field.add(name=name, number=number, type_name=f".tensorflow.{kind}")
    field.label, field.type = field.LABEL_OPTIONAL, field.TYPE_MESSAGE
    return field
