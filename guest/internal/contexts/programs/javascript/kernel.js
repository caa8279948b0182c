// Runs inside the sandbox, in the user's Node.js: takes code through descriptor 3 and tells on descriptor 4 what it did.
// Sent by the guest, never on the sandbox's disk. The inspector of this very process evaluates the code, because it is
// what can redeclare `const` and await at the top level. Names are taken before user code can replace them.
(function (require, module) {
  "use strict";
  const fs = require("fs"), net = require("net"), util = require("util"), vm = require("vm");
  const { Writable } = require("stream");
  const { Console } = require("console");
  const inspector = require("inspector");
  const { Worker } = require("worker_threads");
  const { writeSync } = fs, { inspect } = util;
  const { from, concat, alloc, isBuffer } = Buffer;
  const { stringify } = JSON;
  const on = process.on.bind(process), chdir = process.chdir.bind(process), exit = process.reallyExit.bind(process);
  const nextTick = process.nextTick.bind(process);
  const PIECE = 256 << 10, MOST = 16 << 20, LONGEST_TYPE = 128;
  const { compareExchange, notify, store } = Atomics;
  // Shared with the thread that interrupts: the number of what runs, and who may not be disturbed (1: this thread writes
  // a frame, 2: that thread has asked for the code's end, and nothing may be begun before it has come), and the number of
  // what began last.
  const now = new Int32Array(new SharedArrayBuffer(12));
  let running = 0, value;

  function send(...frames) {
    const data = concat(frames);
    while (compareExchange(now, 1, 0, 1) !== 0);
    put(data);
    store(now, 1, 0);
    notify(now, 1);
  }
  function put(data) {
    let sent = 0;
    while (sent < data.length) {
      try {
        sent += writeSync(4, data, sent);
      } catch (error) {
        if (error.code !== "EAGAIN") exit(70);
      }
    }
  }
  function frame(kind, payload) {
    const head = alloc(5);
    head[0] = kind.charCodeAt(0);
    head.writeUInt32BE(payload.length, 1);
    return concat([head, payload]);
  }
  function fields(parts) {
    const all = [];
    for (const part of parts) {
      const size = alloc(4), body = isBuffer(part) ? part : from(part);
      size.writeUInt32BE(body.length);
      all.push(size, body);
    }
    return concat(all);
  }
  function tell(kind, bytes) {
    for (let i = 0; i < bytes.length; i += PIECE) send(frame(kind, bytes.subarray(i, i + PIECE)));
  }
  function stream(kind, fd) {
    const made = new Writable({ write(data, encoding, done) { done(); } });
    // At once and whole: a stream that an interrupt cut short would hold back all that comes after it.
    made.write = (data, encoding, done) => {
      const bytes = typeof data === "string" ? from(data, typeof encoding === "string" ? encoding : "utf8") : from(data);
      tell(kind, bytes);
      const called = typeof encoding === "function" ? encoding : done;
      if (typeof called === "function") nextTick(called);
      return true;
    };
    made.fd = fd;
    made.isTTY = false;
    return made;
  }

  function bundle(shown) {
    const data = { "text/plain": plain(shown) };
    if (shown !== null && (typeof shown === "object" || typeof shown === "function")) {
      for (const [type, name] of [["text/html", "toHtml"], ["text/html", "_repr_html_"], ["image/svg+xml", "_repr_svg_"]]) {
        try {
          if (typeof shown[name] === "function") data[type] = String(shown[name]());
        } catch {}
      }
    }
    return data;
  }
  function plain(shown) {
    try {
      return String(inspect(shown, { depth: 4, maxArrayLength: 200, breakLength: 100 }));
    } catch (error) {
      return "<a value that cannot be shown: " + described(error) + ">";
    }
  }
  function result(kind, data) {
    const leftOut = [], parts = [];
    let size = 0;
    for (const type of Object.keys(data).slice(0, 64)) {
      let body;
      if (type.length > LONGEST_TYPE) continue;
      try {
        body = isBuffer(data[type]) ? from(data[type].toString("base64"))
          : from(type.endsWith("json") ? stringify(data[type]) : String(data[type]));
      } catch {
        continue;
      }
      parts.push([type, body]);
      size += body.length;
    }
    while (size > MOST) {
      const largest = parts.reduce((most, part) => (part[1].length > most[1].length ? part : most));
      parts.splice(parts.indexOf(largest), 1);
      leftOut.push(largest[0]);
      size -= largest[1].length;
    }
    return frame(kind, fields(["{}", leftOut.join("\n"), ...parts.flat()]));
  }
  function display(shown, options) {
    send(result("d", options && options.raw && typeof shown === "object" ? shown : bundle(shown)));
  }

  function described(error) {
    try {
      return error instanceof Error || (error && error.stack) ? String(error.name) + ": " + String(error.message) : plain(error);
    } catch {
      return "?";
    }
  }
  function problem(error, name) {
    let message = "", trace = "";
    try {
      const like = error !== null && typeof error === "object" && typeof error.message === "string";
      name = name || (like ? String(error.name || "Error") : "Error");
      message = like ? error.message : plain(error);
      trace = like && error.stack ? own(String(error.stack)) : name + ": " + message;
    } catch {}
    return failure(name || "Error", message, trace);
  }
  function failure(name, message, trace) {
    return frame("x", fields([from(name).subarray(0, 1024), from(message).subarray(0, 1 << 20), from(trace).subarray(0, 1 << 20)]));
  }
  function lateFailure(what, error) {
    let said = "?";
    try {
      said = error && error.stack ? own(String(error.stack)) : plain(error);
    } catch {}
    tell("e", from(what + said + "\n"));
  }
  // The lines up to the user's own last frame: below it is only this program.
  function own(stack) {
    const lines = stack.split("\n").filter((line) => !line.includes("(cloche:kernel"));
    let last = lines.length - 1;
    while (last > 0 && !lines[last].includes("cell_")) last--;
    if (last > 0) return lines.slice(0, last + 1).join("\n");
    const cut = lines.findIndex((line) => line.includes("cloche:kernel"));
    return (cut < 0 ? lines : lines.slice(0, cut)).join("\n");
  }

  const session = new inspector.Session();
  session.connect();
  Object.defineProperty(globalThis, "__cloche_keep", { value: (kept) => { value = kept; } });
  // The value that the inspector tells of, as what it is.
  function taken(remote) {
    if (remote.objectId === undefined) {
      if (remote.unserializableValue === undefined) return remote.type === "undefined" ? undefined : remote.value;
      if (remote.unserializableValue.endsWith("n")) return BigInt(remote.unserializableValue.slice(0, -1));
      return Number(remote.unserializableValue);
    }
    const { objectId } = remote;
    session.post("Runtime.callFunctionOn", {
      functionDeclaration: "function(kept) { __cloche_keep(kept) }", arguments: [{ objectId }], objectId,
    });
    session.post("Runtime.releaseObject", { objectId });
    const found = value;
    value = undefined;
    return found;
  }
  // A syntax error's place is not in its stack: ask the compiler.
  function place(source, name, error) {
    try {
      new vm.Script(source, { filename: name });
    } catch (found) {
      if (found instanceof SyntaxError && found.message === error.message && found.stack) {
        return String(found.stack).split("\n    at ")[0];
      }
    }
    return name + "\n" + described(error);
  }

  function finish(number, status, ...frames) {
    if (running !== number) return;
    const data = concat([...frames, frame("D", from(number + " " + status))]);
    while (compareExchange(now, 1, 0, 1) !== 0);
    running = 0;
    put(data);
    store(now, 0, 0);
    notify(now, 0);
    store(now, 1, 0);
    notify(now, 1);
  }
  function fail(number, error, source) {
    if (error instanceof SyntaxError && source !== undefined && !String(error.stack).includes("cell_")) {
      const trace = place(source, "cell_" + number, error);
      return finish(number, "error", failure("SyntaxError", String(error.message), trace));
    }
    finish(number, "error", problem(error));
  }
  function interrupted(number) {
    finish(number, "interrupted", failure("Interrupted", "the code was interrupted", ""));
  }
  function succeed(number, shown) {
    if (shown === undefined) return finish(number, "ok");
    globalThis._ = shown;
    finish(number, "ok", result("v", bundle(shown)));
  }

  function cell(number, source) {
    running = number;
    store(now, 0, number);
    store(now, 2, number);
    const request = { expression: source + "\n//# sourceURL=cell_" + number, replMode: true, objectGroup: "cell" };
    session.post("Runtime.evaluate", request, (failure, found) => {
      if (running !== number) return;
      if (failure && /terminated/.test(failure.message)) return interrupted(number);
      if (failure) return fail(number, new Error("the code could not be evaluated: " + failure.message));
      if (!found.exceptionDetails) return succeed(number, taken(found.result));
      const remote = found.exceptionDetails.exception;
      fail(number, remote ? taken(remote) : new Error(found.exceptionDetails.text), source);
    });
  }

  let inbox = alloc(0);
  function feed(data) {
    inbox = inbox.length ? concat([inbox, data]) : data;
    while (inbox.length >= 5 && inbox.length >= 5 + inbox.readUInt32BE(1)) {
      const kind = inbox[0], payload = inbox.subarray(5, 5 + inbox.readUInt32BE(1));
      inbox = inbox.subarray(5 + payload.length);
      if (kind === 67) cell(payload.readUInt32BE(0), payload.toString("utf8", 4));
      else if (kind === 69) changeEnv(payload.toString());
      else if (kind === 87) try { chdir(payload.toString()); } catch {}
    }
  }
  function changeEnv(text) {
    for (const entry of text.split("\0")) {
      const at = entry.indexOf("=");
      if (at < 0) delete process.env[entry];
      else process.env[entry.slice(0, at)] = entry.slice(at + 1);
    }
  }

  const stdout = stream("o", 1), stderr = stream("e", 2);
  Object.defineProperty(process, "stdout", { value: stdout, configurable: true });
  Object.defineProperty(process, "stderr", { value: stderr, configurable: true });
  Object.defineProperty(globalThis, "console", { value: new Console({ stdout, stderr }), configurable: true, writable: true });
  globalThis.display = display;
  globalThis.require = require;
  globalThis.module = module;
  globalThis.exports = module.exports;
  process.argv.length = 1;
  process.execArgv = [];
  // It is for the programs that the code waits for; the code itself is stopped by the thread below.
  on("SIGINT", () => {});
  // What fails between executions, or in a callback, is told and ends nothing.
  on("uncaughtException", (error) => lateFailure("Uncaught ", error));
  on("unhandledRejection", (error) => lateFailure("Unhandled rejection: ", error));
  const input = new net.Socket({ fd: 3, readable: true, writable: false });
  input.on("data", feed);
  input.on("end", () => exit(0));
  send(frame("R", from(process.versions.node)));
  // Signals that come as a piece of code begins or ends reach Node's next one, or kill it: so none is used for code.
  const stopper = new Worker("STOPPER", { eval: true, workerData: now, execArgv: [], env: {} });
  stopper.on("message", interrupted);
  stopper.unref();
})
