// A thread of the context's process: interrupts code, also code that never returns to its event loop. It is told numbers
// of executions on descriptor 5 and goes on until the execution of that number has ended, so none is ever missed; it asks
// V8 for the end of what runs only while that execution lasts, so no other is ever hit.
"use strict";
const { parentPort, workerData: now } = require("worker_threads");
const { Session } = require("inspector");
const { Socket } = require("net");
const RUNNING = 0, TURN = 1, BEGUN = 2, PATIENCE_MS = 30;
let stopping = 0, inbox = Buffer.alloc(0);

function stop() {
  if (Atomics.load(now, BEGUN) < stopping) { // the code is still on its way
    setTimeout(stop, PATIENCE_MS);
    return;
  }
  if (over()) return;
  parentPort.postMessage(stopping); // enough for code that awaits
  Atomics.wait(now, RUNNING, stopping, PATIENCE_MS);
  if (over()) return;
  if (Atomics.compareExchange(now, TURN, 0, 2) !== 0) {
    Atomics.wait(now, TURN, 1, PATIENCE_MS);
    setImmediate(stop);
  } else if (Atomics.load(now, RUNNING) === stopping) {
    terminate();
  } else {
    free();
    stopping = 0;
  }
}

function over() {
  if (Atomics.load(now, RUNNING) === stopping) return false;
  stopping = 0;
  return true;
}

function terminate() {
  const session = new Session();
  session.connectToMainThread();
  session.post("Runtime.terminateExecution", () => {
    session.disconnect();
    free();
    setImmediate(stop);
  });
}

function free() {
  Atomics.store(now, TURN, 0);
  Atomics.notify(now, TURN);
}

const input = new Socket({ fd: 5, readable: true, writable: false });
input.on("error", () => {});
input.on("data", (data) => {
  inbox = Buffer.concat([inbox, data]);
  const whole = inbox.length - (inbox.length % 4);
  if (whole === 0) return;
  const idle = stopping === 0; // only one execution runs: what it is now is what is asked for
  stopping = inbox.readUInt32BE(whole - 4);
  inbox = inbox.subarray(whole);
  if (idle) stop();
});
