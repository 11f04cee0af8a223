"""
The script of the live page: it asks for news, puts them in place, and sends the form.

The page is whole without it. What it puts in place was rendered and escaped by this package, is
parsed by ``DOMParser``, which runs nothing, and stands under the page's own policy.

Where several processes answer at one address (workers of one server), the page stays with the
process that it began with: numbers of two processes in one curve would be of neither.
"""

SCRIPT = """
"use strict";
(() => {
  const main = document.querySelector("main");
  const state = document.getElementById("state");
  const form = document.querySelector("form");
  const answer = document.getElementById("answer");
  const here = location.origin + location.pathname;
  const every = Number(main.dataset.every) * 1000;
  const shown = new Map();
  const others = new Set();
  let strangers = 0, failures = 0, last = Date.now(), timer = 0, asking = false;

  const say = (text, kind) => { state.textContent = text; state.className = kind; };

  const put = (part, text) => {
    if (shown.get(part.dataset.part) === text) return;
    shown.set(part.dataset.part, text);
    const news = new DOMParser().parseFromString(text, "text/html").body;
    const open = new Set([...part.querySelectorAll("details[open]")].map((d) => d.dataset.key));
    for (const each of news.querySelectorAll("details")) each.open = open.has(each.dataset.key);
    part.replaceChildren(...news.childNodes);
  };

  const take = (news) => {
    if (news.instance !== main.dataset.instance) {
      others.add(news.instance);
      if (others.size > 100) others.clear();
      strangers += 1;
      const age = Math.round((Date.now() - last) / 1000);
      if (age > 5 + 2 * every / 1000) {
        say(`other processes answer; these numbers are ${age} s old`, "stale");
        main.classList.add("old-numbers");
      }
      if (strangers < Math.max(50, 6 * others.size)) return false;
      location.reload();  // the process is gone; begin with one that answers
      return true;
    }
    strangers = 0;
    document.title = news.title;
    for (const part of document.querySelectorAll("[data-part]")) {
      if (part.dataset.part in news.parts) put(part, news.parts[part.dataset.part]);
    }
    last = Date.now();
    const many = others.size ? `, one of ${others.size + 1} processes` : "";
    say(`live, every ${every / 1000} s${many}`, "live");
    main.classList.remove("old-numbers");
    return true;
  };

  const ask = async () => {
    if (document.hidden || asking) return;
    clearTimeout(timer);
    asking = true;
    let wait = every;
    try {
      const query = new URLSearchParams(location.search);
      const reply = await fetch(new URL(main.dataset.source + "?" + query, here), {
        cache: "no-store", signal: AbortSignal.timeout(10000),
      });
      if (!reply.ok) throw new Error(`the server answered ${reply.status}`);
      if (!take(await reply.json())) wait = 200;
      failures = 0;
    } catch (error) {
      failures += 1;
      wait = Math.min(every * 2 ** Math.min(failures, 3), 15000);
      const age = Math.round((Date.now() - last) / 1000);
      const why = error.message.startsWith("the server") ? error.message : "no answer";
      say(`${why}; these numbers are ${age} s old`, "stale");
      main.classList.add("old-numbers");
    }
    asking = false;
    timer = setTimeout(ask, wait);
  };

  const relieve = async (tries) => {
    const fields = new URLSearchParams({
      instance: main.dataset.instance, target: form.elements.target.value,
    });
    const reply = await fetch(new URL(form.getAttribute("action"), here), {
      method: "POST", body: fields, cache: "no-store",
      headers: { "X-Memguard-Token": form.elements.token.value, Accept: "application/json" },
      signal: AbortSignal.timeout(30000),
    });
    const found = await reply.json();
    if (found.error === "another process" && tries > 0) {
      await new Promise((next) => setTimeout(next, 100));
      return relieve(tries - 1);
    }
    answer.textContent = found.message;
    answer.className = reply.ok ? "" : "bad";
  };

  if (form) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      button.disabled = true;
      answer.className = "";
      answer.textContent = "\\u2026";
      try {
        await relieve(25);
      } catch {
        answer.textContent = "No answer came; the run may be under way.";
        answer.className = "bad";
      }
      button.disabled = false;
      ask();
    });
  }
  document.addEventListener("visibilitychange", ask);
  ask();
})();
"""
