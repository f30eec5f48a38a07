# SPDX-License-Identifier: Apache-2.0
"""Text and XML files in any encoding that annotation tools write."""

from __future__ import annotations

import codecs
import re
import stat
from pathlib import Path
from xml.etree import ElementTree

MAX_BYTES = 2**26  # an annotation has kilobytes
_MARKS = {  # the longer one first: that of UTF-32 starts with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)["']""")
# Files named so are often written by Windows, whose supersets read both.
_SUPERSETS = {
    **dict.fromkeys(("gb2312", "gbk"), "gb18030"),
    **dict.fromkeys(("shift_jis", "sjis", "shift-jis"), "cp932"),
    **dict.fromkeys(("iso-8859-1", "latin1", "latin-1"), "cp1252"),
    **dict.fromkeys(("utf-16", "utf-32"), "utf-8"),  # without a mark it is in fact not
}


def read_text(path: Path) -> str:
    """The text of a file in the encoding of its byte order mark, else in UTF-8.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a regular file, too large, or in another encoding.
    """
    return _decode(_read(path), None)


def parse_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file in the encoding of its byte order mark or declaration.

    The XML parser itself knows no encoding with several bytes per character but Unicode's.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a regular file, too large, in another encoding, or no XML.
    """
    data = _read(path)
    declared = _DECLARED.match(data)
    text = _decode(data, declared[1].decode() if declared else None)
    try:
        return ElementTree.fromstring(text.strip())
    except ElementTree.ParseError as error:
        raise ValueError(f"is not XML: {error}") from None


def _read(path: Path) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
        raise ValueError("is not a regular file")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"has {status.st_size} bytes, expected at most {MAX_BYTES}")
    return path.read_bytes()


def _decode(data: bytes, declared: str | None) -> str:
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    if encoding is None and data[:2].count(0) == 1:  # the mark is missing
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    if encoding is None and declared:
        encoding = _SUPERSETS.get(declared.lower(), declared)
    try:
        return data.decode(encoding or "utf-8")
    except LookupError:
        raise ValueError(f"is in the encoding '{declared}', which Python does not know") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is not in {declared or encoding or 'UTF-8'}: byte {error.start} is "
            f"0x{data[error.start]:02x}; save it as UTF-8"
        ) from None
