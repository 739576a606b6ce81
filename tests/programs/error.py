#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Plays a pipeline until its first error and prints that as JSON: error.py PIPELINE"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

Gst.init(None)
pipeline = Gst.parse_launch(sys.argv[1])
pipeline.set_state(Gst.State.PLAYING)
message = pipeline.get_bus().timed_pop_filtered(30 * Gst.SECOND, Gst.MessageType.ERROR)
pipeline.set_state(Gst.State.NULL)
if message is None:
    sys.exit("no error within 30 s")
error, debug = message.parse_error()
details = message.parse_error_details()
print(
    json.dumps(
        {
            "domain": error.domain,
            "number": error.code,
            "text": error.message,
            "debug": debug,
            "code": details.get_string("code"),
            "recoverable": details.get_boolean("recoverable").value,
        }
    )
)
