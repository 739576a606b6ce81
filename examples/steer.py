#!/usr/bin/python3
# SPDX-License-Identifier: MIT

"""Camera in, the model's picture and sound out, steered from the terminal.

    examples/steer.py [--camera [DEVICE]] [--output FILE.mp4]

Each line that is typed becomes the prompt; a line such as
`/set_brightness {"brightness":0.5}` is any other command. Ctrl-C, or the end of the
input, ends it.

Needs the Debian packages python3-gi and gir1.2-gstreamer-1.0.
"""

import argparse
import json
import os
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

FINISH_LIMIT = 10  # seconds that the file may take to be finished

ADVICE = {
    Gst.ResourceError.OPEN_READ: "is the runtime running? examples/models/serve.sh run",
    Gst.ResourceError.READ: "start it again; if that helps for a moment only, see to the network",
    Gst.ResourceError.BUSY: "try again a little later",
    Gst.ResourceError.NOT_AUTHORIZED: "see to the credentials",
    Gst.ResourceError.SETTINGS: "see to the options; this plugin may also be too old",
}


class Steer:
    """All of it happens in the main loop's thread, but for `attach` and `answered`."""

    def __init__(self, options):
        self.seconds = options.seconds
        self.loop = GLib.MainLoop()
        self.typing = True
        self.unfinished = b""  # what was typed of the next line
        self.unanswered = 0
        self.ending = False
        self.failure = None
        self.build(options)

    def build(self, options):
        """The whole pipeline but for the model's output, which is not known yet."""
        self.pipeline = Gst.Pipeline.new()
        # Both are in one pipeline, so they share a session.
        self.model = make("reactorsrc", local=True, api_url=options.api_url)
        sink = make("reactorsink", local=True, api_url=options.api_url)
        source = self.input(options.camera)
        for element in (self.model, sink, source):
            self.pipeline.add(element)
        # The pad that this requests takes the model's first video input.
        source.link(sink)

        self.mux = None
        if options.output:
            self.mux = make("mp4mux")
            file = make("filesink", location=options.output)
            self.pipeline.add(self.mux)
            self.pipeline.add(file)
            self.mux.link(file)
        self.model.connect("pad-added", self.attach)

    @staticmethod
    def input(camera):
        """What the model is fed with; `camera` is None, "" for any, or a device."""
        if camera is None:
            description = (
                "videotestsrc is-live=true ! capsfilter caps=video/x-raw,width=640,height=360"
            )
        else:
            description = f"{'v4l2src name=camera' if camera else 'autovideosrc'} ! videoconvert"
        source = Gst.parse_bin_from_description(description, True)
        if camera:
            source.get_by_name("camera").set_property("device", camera)
        return source

    def attach(self, _model, pad):
        """Record or show one of the model's tracks.

        The pads are all added before any of them has data, so the muxer learns of each
        in time. audiorate makes the sound seamless, which is of a network and so is not
        always.
        """
        video = pad.get_name().startswith("video_")
        if self.mux:
            description = (
                "queue ! videoconvert ! x264enc tune=zerolatency ! h264parse"
                if video
                else "queue ! audioconvert ! audiorate ! avenc_aac ! aacparse"
            )
        else:
            description = (
                "queue ! videoconvert ! autovideosink"
                if video
                else "queue ! audioconvert ! audioresample ! autoaudiosink"
            )
        branch = Gst.parse_bin_from_description(description, True)
        self.pipeline.add(branch)
        if self.mux:
            branch.link_pads("src", self.mux, "video_%u" if video else "audio_%u")
        # Started first: what is linked may be pushed to at once.
        branch.sync_state_with_parent()
        pad.link(branch.get_static_pad("sink"))

    def run(self):
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message", self.on_message)
        for number in (signal.SIGINT, signal.SIGTERM):
            GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, self.on_interrupt)
        if self.seconds is not None:
            GLib.timeout_add_seconds(self.seconds, self.end)
        stdin = sys.stdin.fileno()
        GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, stdin, GLib.IOCondition.IN, self.on_input)
        try:
            # A failure is on the bus, with its reason.
            self.pipeline.set_state(Gst.State.PLAYING)
            self.loop.run()
        finally:
            # Whatever has happened: this ends the session on the server.
            self.pipeline.set_state(Gst.State.NULL)
        return self.failure

    # --- how it ends ------------------------------------------------------------------

    def end(self):
        """EOS reaches the muxer, which finishes its file, and comes back on the bus."""
        if not self.ending:
            self.ending = True
            late = f"the pipeline did not end within {FINISH_LIMIT} s"
            GLib.timeout_add_seconds(FINISH_LIMIT, self.fail, late)
            self.pipeline.send_event(Gst.Event.new_eos())
        return GLib.SOURCE_REMOVE

    def end_if_all_is_said(self):
        # Who pipes commands in wants to see what becomes of them.
        if self.seconds is None and not self.typing and self.unanswered == 0:
            self.end()

    def fail(self, reason):
        self.failure = self.failure or reason
        self.loop.quit()
        return GLib.SOURCE_REMOVE

    def on_interrupt(self):
        if self.ending:
            self.fail("interrupted")
        self.end()
        return GLib.SOURCE_CONTINUE

    # --- commands ---------------------------------------------------------------------

    def on_input(self, fd, _condition):
        data = os.read(fd, 4096)
        *lines, self.unfinished = (self.unfinished + (data or b"\n")).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").strip()
            if text:
                self.send(text)
        self.typing = bool(data)
        self.end_if_all_is_said()
        return self.typing

    def send(self, line):
        if line.startswith("/"):
            name, _, arguments = line[1:].partition(" ")
        else:
            name, arguments = "set_prompt", json.dumps({"prompt": line})
        self.unanswered += 1
        promise = Gst.Promise.new_with_change_func(self.answered, name)
        self.model.emit("send-command", name, arguments or "{}", promise)

    def answered(self, promise, name):
        """Called in another thread."""
        reply = promise.get_reply()
        # It belongs to the promise, so it is read here and now.
        GLib.idle_add(self.on_reply, outcome(name, reply))

    def on_reply(self, text):
        self.unanswered -= 1
        print(text, flush=True)
        self.end_if_all_is_said()

    # --- what the pipeline says -------------------------------------------------------

    def on_message(self, _bus, message):
        if message.type == Gst.MessageType.EOS:
            self.loop.quit()
        elif message.type == Gst.MessageType.ERROR:
            self.fail(describe(message))
        elif message.type == Gst.MessageType.WARNING:
            print(f"warning: {message.parse_warning()[0].message}", file=sys.stderr)
        elif message.type == Gst.MessageType.ELEMENT and message.src == self.model:
            # Both elements post it; once is enough.
            show(message.get_structure())


def make(factory, **properties):
    element = Gst.ElementFactory.make(factory)
    if element is None:
        sys.exit(f"is GST_PLUGIN_PATH the directory of libgstreactor? no {factory}")
    for name, value in properties.items():
        element.set_property(name, value)
    return element


def outcome(command, reply):
    """A reply has `error`, or `type` and `data`, or nothing if all is said with that."""
    if reply is not None and reply.has_field("error"):
        error = reply.get_value("error")
        return f"{command} failed: {error.get_value('code')}: {error.get_value('message')}"
    if reply is not None and reply.has_field("type"):
        return f"{command}: {reply.get_value('type')} {reply.get_value('data')}"
    return f"{command}: done"


def show(structure):
    """What the model says, and where the session stands."""
    name = structure.get_name()
    if name == "reactor-message":
        print(f"model: {structure.get_value('type')} {structure.get_value('data')}", flush=True)
    elif name == "reactor-status":
        print(f"status: {structure.get_value('status').value_nick}", flush=True)
    elif name == "reactor-session-ended":
        print(f"the model ended the session: {structure.get_value('reason')}", flush=True)


def describe(message):
    """Everything that is known of an error, for people."""
    error, debug = message.parse_error()
    lines = [error.message]
    details = message.parse_error_details()
    if details is not None:
        # The code, how long to wait, the HTTP status: what there is.
        fields = (details.nth_field_name(n) for n in range(details.n_fields()))
        lines += [f"{name}: {details.get_value(name)}" for name in fields if name != "message"]
    elif debug:
        lines.append(debug)
    resource = GLib.quark_to_string(Gst.ResourceError.quark())
    if error.domain == resource and error.code in ADVICE:
        lines.append(f"what to do: {ADVICE[error.code]}")
    elif error.matches(Gst.CoreError.quark(), Gst.CoreError.MISSING_PLUGIN) or error.matches(
        Gst.StreamError.quark(), Gst.StreamError.CODEC_NOT_FOUND
    ):
        lines.append("what to do: install the missing GStreamer plugin")
    return "\n  ".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--api-url",
        default="http://localhost:8080",
        help="where the local runtime is (default: %(default)s)",
    )
    parser.add_argument(
        "--output", metavar="FILE.mp4", help="record into this file instead of opening a window"
    )
    parser.add_argument(
        "--camera",
        metavar="DEVICE",
        nargs="?",
        const="",
        help="feed the model with a camera, such as /dev/video0, and not a test picture",
    )
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=int,
        help="stop after so long, and not at the end of the input",
    )
    options = parser.parse_args()
    Gst.init(None)
    failure = Steer(options).run()
    if failure:
        sys.exit(f"Error: {failure}")


if __name__ == "__main__":
    main()
