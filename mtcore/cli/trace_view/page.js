"use strict";
const facts = JSON.parse(document.getElementById("facts").textContent);
const panel = document.getElementById("panel");
const detail = document.getElementById("detail");

function add(parent, tag, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  parent.append(node);
  return node;
}

function showGroup(group) {
  add(detail, "h3", group.title);
  for (const line of group.lines) add(detail, "p", line);
  for (const [heading, members] of group.members) {
    add(detail, "h4", heading);
    const list = add(detail, "ul");
    for (const [name, place] of members) {
      const item = add(list, "li");
      add(item, "code", name);
      if (place) add(item, "span", " " + place, "note");
    }
  }
}

function showPin(pin) {
  add(detail, "h3", "Why it is pinned");
  add(detail, "p", pin.text);
  const list = add(detail, "ol");
  for (const step of pin.way) add(add(list, "li"), "code", step);
  add(detail, "p", "For another index:", "note");
  add(detail, "code", pin.command, "command");
}

function choose(button) {
  for (const other of document.querySelectorAll(".on")) other.classList.remove("on");
  const keys = button ? button.dataset : {};
  document.body.classList.toggle("chosen", Boolean(button));
  document.body.classList.toggle("open", Boolean(button));
  panel.hidden = !button;
  detail.replaceChildren();
  if (!button) return;
  const same = keys.group ? document.querySelectorAll('main [data-group="' + keys.group + '"]') : [button];
  for (const other of same) other.classList.add("on");
  if (keys.group) showGroup(facts[keys.group]);
  else showPin(facts[keys.pin]);
  panel.scrollTop = 0;
}

document.querySelector("main").addEventListener("click", (event) => {
  const button = event.target.closest("button.cell");
  if (button) choose(button.classList.contains("on") && !panel.hidden ? null : button);
});
document.getElementById("close").addEventListener("click", () => choose(null));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(null); });

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

const plain = (name) => name.toLowerCase().replace(/\[[\d,-]*\]|\d+/g, "*");
document.getElementById("search").addEventListener("input", (event) => {
  const wanted = plain(event.target.value.trim());
  let any = false;
  for (const layer of document.querySelectorAll(".layer")) {
    let found = !wanted;
    for (const head of layer.querySelectorAll("[data-name]")) {
      const hit = plain(head.dataset.name).includes(wanted);
      found = found || hit;
      for (const cell of layer.querySelectorAll('[data-column="' + head.dataset.column + '"]')) {
        cell.classList.toggle("miss", !hit);
      }
    }
    layer.hidden = !found;
    any = any || found;
  }
  document.getElementById("nothing").hidden = any;
});
