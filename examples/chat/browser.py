"""Chromium without a window, spoken to through two pipes (DevTools protocol). Standard library only."""
import base64
import json
import os
import select
import signal
import subprocess
import time

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
	"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe"]


class Browser:
	def __init__(self, profile, log):
		to_read, self.to = os.pipe()
		self.back, back_write = os.pipe()

		def pipes():
			# Chromium reads commands from 3 and writes answers to 4.
			read, write = os.dup(to_read), os.dup(back_write)
			os.dup2(read, 3)
			os.dup2(write, 4)

		self.process = subprocess.Popen(["chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"],
			stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=pipes, close_fds=False, start_new_session=True)
		os.close(to_read)
		os.close(back_write)
		self.number, self.buffer, self.session = 0, b"", None
		target = self.call("Target.createTarget", url="about:blank")["targetId"]
		self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
		self.call("Page.enable")

	def message(self, deadline):
		while b"\0" not in self.buffer:
			if not select.select([self.back], [], [], max(0, deadline - time.monotonic()))[0]:
				raise TimeoutError("the browser does not answer")
			got = os.read(self.back, 1 << 16)
			if not got:
				raise EOFError("the browser has ended")
			self.buffer += got
		text, _, self.buffer = self.buffer.partition(b"\0")
		return json.loads(text)

	def call(self, method, **params):
		self.number += 1
		command = {"id": self.number, "method": method, "params": params}
		if self.session:
			command["sessionId"] = self.session
		text = json.dumps(command).encode() + b"\0"
		while text:
			text = text[os.write(self.to, text):]
		deadline = time.monotonic() + 60
		while True:
			answer = self.message(deadline)
			if answer.get("id") == self.number:
				if "error" in answer:
					raise RuntimeError(f"{method}: {answer['error']}")
				return answer["result"]

	def run(self, script):
		result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
		if "exceptionDetails" in result:
			raise RuntimeError(f"{script}: {result['exceptionDetails']}")
		return result["result"].get("value")

	def wait(self, what, script, seconds=30):
		deadline = time.monotonic() + seconds
		while not self.run(script):
			if time.monotonic() > deadline:
				raise TimeoutError(f"waited in vain for {what}; the page shows: {self.run('document.body.innerText')}")
			time.sleep(0.05)

	def type(self, text):
		self.call("Input.insertText", text=text)
		for kind in "keyDown", "keyUp":
			self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)

	def look(self, width, height, dark):
		self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
		self.call("Emulation.setEmulatedMedia",
			features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

	def screenshot(self, path):
		with open(path, "wb") as file:
			file.write(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

	def kill(self):
		"""SIGKILL to it and its helpers, as when a phone's battery is empty."""
		try:
			os.killpg(self.process.pid, signal.SIGKILL)
			self.process.wait()
			for _ in range(100):  # until the helpers are gone, too
				os.killpg(self.process.pid, 0)
				time.sleep(0.02)
		except ProcessLookupError:
			self.process.wait()
		os.close(self.to)
		os.close(self.back)
