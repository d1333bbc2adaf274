"""The page in a real browser: joins, sees history, goes offline, returns, sees what it missed in order.

usage: test_page.py PAGE_URL BROKER_PORT WEBSOCKETS_PORT FOLDER
"""
import json
import os
import signal
import subprocess
import sys

from browser import Browser

TEXTS = "[...document.querySelectorAll('#talk .text')].map(e => e.textContent)"
ONLINE = "document.getElementById('state')?.textContent === 'online'"


def bob_says(port, room, first, last):
	for n in range(first, last + 1):
		message = json.dumps({"id": f"bob-{room}-{n}", "from": "bob", "text": f"{room} {n}"})
		subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-i", "bob", "-q", "1", "-t", f"chat/{room}",
			"-m", message], check=True)


def said(room, first, last):
	return [f"{room} {n}" for n in range(first, last + 1)]


def shows(page, what, expected):
	page.wait(what, f"JSON.stringify({TEXTS}) === {json.dumps(json.dumps(expected, separators=(',', ':')))}")
	print(f"  ok: {what}: {len(expected)} messages, in order, each once", flush=True)


def main():
	url, port, websockets_port, folder = sys.argv[1:]
	address = f"{url}#name=ann&rooms=balcony,cellar&broker=ws://127.0.0.1:{websockets_port}"
	pictures = os.environ.get("MQR_PICTURES")
	pages = []

	def opened():
		page = Browser(f"{folder}/profile", log)
		pages.append(page)
		page.call("Page.navigate", url=address)
		page.wait("the connection", ONLINE)
		return page

	def picture(page, name, *look):
		if pictures:
			page.look(*look)
			page.wait("the layout", "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(true), 200)))")
			page.screenshot(f"{pictures}/{name}.png")

	signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
	log = open(f"{folder}/chromium.log", "a")
	try:
		bob_says(port, "balcony", 1, 60)
		bob_says(port, "cellar", 1, 3)
		page = opened()
		shows(page, "the history on joining", said("balcony", 11, 60))

		page.run("document.querySelector('#write input').focus()")
		page.type("Hello, <b>balcony</b>")
		expected = said("balcony", 11, 60) + ["Hello, <b>balcony</b>"]
		shows(page, "what ann says herself", expected)
		page.wait("its acknowledgement", "!document.querySelector('.pending')")
		bob_says(port, "balcony", 61, 62)
		expected += said("balcony", 61, 62)
		shows(page, "live messages", expected)

		page.run("document.getElementById('switch').click()")
		page.wait("offline", f"!({ONLINE})")
		bob_says(port, "balcony", 63, 82)
		page.run("document.querySelector('#write input').focus()")
		page.type("I will be back")
		page.run("document.getElementById('switch').click()")
		page.wait("online", ONLINE)
		expected += said("balcony", 63, 82) + ["I will be back"]
		shows(page, "what was missed, and what ann wrote offline behind it", expected)
		picture(page, "desktop-light", 1100, 720, False)
		picture(page, "desktop-dark", 1100, 720, True)
		picture(page, "phone-dark", 390, 780, True)

		page.run("document.querySelectorAll('nav button')[1].click()")
		shows(page, "the other room", said("cellar", 1, 3))

		page.kill()
		bob_says(port, "balcony", 83, 90)
		page = opened()
		expected += said("balcony", 83, 90)
		shows(page, "after the browser was killed and started again", expected)
	finally:
		for page in pages:
			if page.process.poll() is None:
				page.kill()


main()
