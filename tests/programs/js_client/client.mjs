// SPDX-License-Identifier: MIT
//
// The platform's JavaScript client in a browser: shows the session in a <video> and reports what is
// seen in it, picture by picture, to the server of this page, js_client.py.

import { Reactor } from "@reactor-team/js-sdk";

// Version 2.9 of the client opens one data channel; servers of its time resumed all tracks by
// themselves. Runtime 3.10 wants a second channel, and to be asked for each track, which later
// clients do: this adds it to each connection that the client makes.
const OwnPeerConnection = window.RTCPeerConnection;
window.RTCPeerConnection = class extends OwnPeerConnection {
  constructor(...options) {
    super(...options);
    const control = this.createDataChannel("control");
    control.onopen = () => {
      const data = { name: "main_video" };
      control.send(JSON.stringify({ type: "notification", event: "resume_track", data }));
    };
  }
};

const CELLS = 40;

function crc8(value) {
  let crc = 0;
  for (const shift of [24, 16, 8, 0]) {
    crc ^= (value >>> shift) & 0xff;
    for (let i = 0; i < 8; i++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
  }
  return crc;
}

// A row of the code at the top of the playground's pictures, see framecode.py.
function readRow(image, row) {
  const width = Math.floor(image.width / CELLS);
  const height = Math.max(8, Math.floor(image.height / 24));
  const y = row * height + (height >> 1);
  const bits = [];
  for (let cell = 0; cell < CELLS; cell++) {
    const at = 4 * (y * image.width + cell * width + (width >> 1));
    bits.push(image.data[at + 1] >= 128 ? 1 : 0);
  }
  const number = (from, to) => bits.slice(from, to).reduce((all, bit) => all * 2 + bit, 0);
  const value = number(0, 32);
  return crc8(value) === number(32, 40) ? value : null;
}

function report(what) {
  return fetch("/report", { method: "POST", body: JSON.stringify(what) });
}

const reactor = new Reactor({
  modelName: "playground",
  local: true,
  apiUrl: `${location.origin}/api`,
});
const video = document.querySelector("video");
const canvas = document.createElement("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });

function watch() {
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  if (canvas.width) {
    context.drawImage(video, 0, 0);
    const image = context.getImageData(0, 0, canvas.width, canvas.height);
    const [counter, emitted] = [readRow(image, 0), readRow(image, 1)];
    if (counter !== null && emitted) report({ frame: [counter, emitted] });
  }
  video.requestVideoFrameCallback(watch);
}

reactor.on("statusChanged", (status) => report({ status, session: reactor.getSessionId() }));
reactor.on("error", (error) => report({ error: error.message, code: error.code }));
reactor.on("trackReceived", (name, track) => {
  if (name !== "main_video") return;
  video.srcObject = new MediaStream([track]);
  video.play();
});
video.requestVideoFrameCallback(watch);

// What the test asks for, one word after the other: /next answers when there is one.
const steps = {
  connect: () => reactor.connect(),
  leave: () => reactor.disconnect(true),
  reconnect: () => reactor.reconnect(),
  disconnect: () => reactor.disconnect(),
};
async function becomesReady() {
  while (reactor.getStatus() !== "ready") await new Promise((resolve) => setTimeout(resolve, 50));
}

for (;;) {
  const step = await (await fetch("/next")).text();
  try {
    await steps[step]();
    if (step.endsWith("connect") && step !== "disconnect") await becomesReady();
    await report({ done: step, session: reactor.getSessionId() });
  } catch (error) {
    await report({ done: step, failed: String(error) });
  }
}
