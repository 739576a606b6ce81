#!/usr/bin/python3
# SPDX-License-Identifier: MIT

"""Sends camera video to a model, plays or records the model's video and audio, and sends
commands that are typed in the terminal.

    examples/steer.py [--model NAME] [--camera [DEVICE]] [--output FILE.mp4]

Each input line is sent as the prompt; a line such as `/set_brightness {"brightness":0.5}`
is sent as that command. Ctrl-C, or the end of the input, stops the application.

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

EOS_TIMEOUT = 30  # seconds that the pipeline has to finish the file after EOS was sent

ADVICE = {
    Gst.ResourceError.OPEN_READ: "is the runtime running? examples/models/serve.sh run",
    Gst.ResourceError.READ: "start it again; if the error returns, check the network",
    Gst.ResourceError.BUSY: "try again a little later",
    Gst.ResourceError.NOT_AUTHORIZED: "check the credentials",
    Gst.ResourceError.SETTINGS: "check the options; this plugin may also be too old",
}


class Steer:
    """The application. `link_track` and `on_promise` are called in threads of GStreamer and of
    the session, all other methods in the main loop's thread."""

    def __init__(self, options):
        self.seconds = options.seconds
        self.loop = GLib.MainLoop()
        self.input_open = True
        self.partial_line = b""
        self.pending_replies = 0
        self.eos_sent = False
        self.failure = None
        self.build_pipeline(options)

    def build_pipeline(self, options):
        """Build the pipeline except for the branches of the model's output tracks, which are
        not known before the session is connected."""
        self.pipeline = Gst.Pipeline.new()
        # Both are in one pipeline, so they share a session.
        server = {"model": options.model} if options.model else {"local": True}
        if options.api_url:
            server["api_url"] = options.api_url
        self.src = make_element("reactorsrc", **server)
        sink = make_element("reactorsink", **server)
        video_source = self.make_video_source(options.camera)
        for element in (self.src, sink, video_source):
            self.pipeline.add(element)
        # The sink pad that is requested here sends to the model's first video input track.
        video_source.link(sink)

        self.mux = None
        if options.output:
            self.mux = make_element("mp4mux")
            file = make_element("filesink", location=options.output)
            self.pipeline.add(self.mux)
            self.pipeline.add(file)
            self.mux.link(file)
        self.src.connect("pad-added", self.link_track)

    @staticmethod
    def make_video_source(camera):
        """Make the source of the video that is sent to the model.

        `camera` is None for a test pattern, "" for the default camera, or a V4L2 device.
        """
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

    def link_track(self, _src, pad):
        """Link one of the model's tracks to the muxer or to a player.

        All pads are added before one of them has data, so the muxer gets all its pads in
        time. audiorate fills the gaps that packet loss leaves in the audio.
        """
        video = pad.get_name().startswith("video_")
        if self.mux:
            description = (
                "queue ! videoconvert ! x264enc tune=zerolatency speed-preset=veryfast ! h264parse"
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
        # The branch starts before it is linked: data may arrive as soon as it is linked.
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
            # If this fails, the bus has an error message with the reason.
            self.pipeline.set_state(Gst.State.PLAYING)
            self.loop.run()
        finally:
            # Also after a failure: the transition to NULL closes the session on the server.
            self.pipeline.set_state(Gst.State.NULL)
        return self.failure

    # --- the end ----------------------------------------------------------------------

    def end(self):
        """Send EOS: the muxer finishes its file, then the EOS message ends the main loop."""
        if not self.eos_sent:
            self.eos_sent = True
            timeout = f"the pipeline did not end within {EOS_TIMEOUT} s"
            GLib.timeout_add_seconds(EOS_TIMEOUT, self.fail, timeout)
            self.pipeline.send_event(Gst.Event.new_eos())
        return GLib.SOURCE_REMOVE

    def end_if_done(self):
        # At the end of the input, replies to commands are still waited for.
        if self.seconds is None and not self.input_open and self.pending_replies == 0:
            self.end()

    def fail(self, reason):
        self.failure = self.failure or reason
        self.loop.quit()
        return GLib.SOURCE_REMOVE

    def on_interrupt(self):
        if self.eos_sent:
            self.fail("interrupted")
        self.end()
        return GLib.SOURCE_CONTINUE

    # --- commands ---------------------------------------------------------------------

    def on_input(self, fd, _condition):
        data = os.read(fd, 4096)
        *lines, self.partial_line = (self.partial_line + (data or b"\n")).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").strip()
            if text:
                self.send_command(text)
        self.input_open = bool(data)
        self.end_if_done()
        return self.input_open

    def send_command(self, line):
        if line.startswith("/"):
            name, _, arguments = line[1:].partition(" ")
        else:
            name, arguments = "set_prompt", json.dumps({"prompt": line})
        self.pending_replies += 1
        promise = Gst.Promise.new_with_change_func(self.on_promise, name)
        self.src.emit("send-command", name, arguments or "{}", promise)

    def on_promise(self, promise, name):
        """Called in another thread."""
        # The reply belongs to the promise, so it is formatted before this returns.
        GLib.idle_add(self.on_reply, format_reply(name, promise.get_reply()))

    def on_reply(self, text):
        self.pending_replies -= 1
        print(text, flush=True)
        self.end_if_done()

    # --- bus messages -----------------------------------------------------------------

    def on_message(self, _bus, message):
        if message.type == Gst.MessageType.EOS:
            self.loop.quit()
        elif message.type == Gst.MessageType.ERROR:
            self.fail(describe_error(message))
        elif message.type == Gst.MessageType.WARNING:
            print(f"warning: {message.parse_warning()[0].message}", file=sys.stderr)
        elif message.type == Gst.MessageType.ELEMENT and message.src == self.src:
            # Both elements post these messages.
            print_message(message.get_structure())


def make_element(factory, **properties):
    element = Gst.ElementFactory.make(factory)
    if element is None:
        sys.exit(f"is GST_PLUGIN_PATH the directory of libgstreactor? no {factory}")
    for name, value in properties.items():
        element.set_property(name, value)
    return element


def format_reply(command, reply):
    """A reply has `error`, or `type` and `data`, or no fields if the command succeeded without
    a result."""
    if reply is not None and reply.has_field("error"):
        error = reply.get_value("error")
        return f"{command} failed: {error.get_value('code')}: {error.get_value('message')}"
    if reply is not None and reply.has_field("type"):
        return f"{command}: {reply.get_value('type')} {reply.get_value('data')}"
    return f"{command}: done"


def print_message(structure):
    """Print the model's messages, and changes of the session's status."""
    name = structure.get_name()
    if name == "reactor-message":
        print(f"model: {structure.get_value('type')} {structure.get_value('data')}", flush=True)
    elif name == "reactor-status":
        print(f"status: {structure.get_value('status').value_nick}", flush=True)
    elif name == "reactor-interrupted":
        print("the connection is lost, another one is made", flush=True)
    elif name == "reactor-resumed":
        print("connected again", flush=True)
    elif name == "reactor-session-ended":
        print(f"the model ended the session: {structure.get_value('reason')}", flush=True)


def describe_error(message):
    """Describe an error with its details, for the user."""
    error, debug = message.parse_error()
    lines = [error.message]
    details = message.parse_error_details()
    if details is not None:
        # For example the error's code, the HTTP status, when to retry.
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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a model of the cloud, instead of the local runtime; the key is in REACTOR_API_KEY",
    )
    parser.add_argument(
        "--api-url",
        metavar="URL",
        help="the address of the local runtime, http://localhost:8080 if not set, or of the"
        " cloud's API",
    )
    parser.add_argument(
        "--output", metavar="FILE.mp4", help="record into this file instead of opening a window"
    )
    parser.add_argument(
        "--camera",
        metavar="DEVICE",
        nargs="?",
        const="",
        help="send a camera's video, such as /dev/video0's, instead of a test pattern",
    )
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=int,
        help="stop after N seconds instead of at the end of the input",
    )
    options = parser.parse_args()
    Gst.init(None)
    failure = Steer(options).run()
    if failure:
        sys.exit(f"Error: {failure}")


if __name__ == "__main__":
    main()
