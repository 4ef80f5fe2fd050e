// Chat with a model, a pool or an agent: the conversations at the side, the open one, and where to ask.

import { json } from "./api.js";
import { composer } from "./composer.js";
import { fresh, revived, titleOf } from "./conversation.js";
import { announce, el, pill, text } from "./dom.js";
import { live, watch } from "./live.js";
import { firstChoice, groups } from "./models.js";
import { keep, runOf, start, stopAll } from "./run.js";
import { settingsForm } from "./settings.js";
import * as store from "./store.js";
import { talkList } from "./talks.js";
import { answerView, questionView } from "./turns.js";

/** Distance from the end at which the log still follows an answer, in pixels. */
const NEAR = 48;
/** Between two looks at the lists of models and agents, in ms. */
const LOOK = 15_000;
/** Most characters of an answer that a screen reader says when it is whole. */
const SPOKEN = 600;

/** The open conversation outlasts a look at another page. */
let open;
/** Questions that are not sent yet, by conversation; new conversations share one, the empty key. */
const drafts = new Map();
const draftKey = () => (open.exchanges.length ? open.id : "");

/** Forgets everything in memory: another user may sign in. */
export function forget() {
  stopAll();
  open = undefined;
  drafts.clear();
}

/** `#/chat` goes on with the open conversation, `#/chat/NAME` begins one with this model, `#/talk/ID` opens a stored one. */
export function chat(wanted, page) {
  const user = live.caller.user;
  let views = [];
  let [heads, lists, choices] = [[], {}, []];
  let [shown, following, left] = ["", true, false];

  const model = el("select", { id: "model" });
  const state = pill();
  const log = el("div.log", { role: "log", "aria-label": "Conversation", "aria-live": "off", tabindex: "0" });
  const settings = el("div");
  settings.addEventListener("toggle", ({ target }) => settings.classList.toggle("unfolded-settings", target.open), { capture: true });
  const ask = composer({ ask: send, stop: () => runOf(open.id)?.stop(), drafted: (draft) => drafts.set(draftKey(), draft) });
  const side = talkList({ rename, remove, fresh: () => begin(open.model) });
  const toggle = el("button.quiet.side-toggle", { type: "button", "aria-expanded": "false" }, "Conversations");
  const node = el("div.chat", {}, side.node, el("section.talk", { "aria-label": "Chat" },
    el("div.talk-head", {}, toggle, el("h1.hidden", {}, "Chat"), el("label", { for: "model" }, "Model"), model, state.node, settings), log, ask.node));
  const unfold = (now) => {
    node.classList.toggle("unfolded", now);
    toggle.setAttribute("aria-expanded", String(now));
  };
  // A click on the open conversation changes no address.
  side.node.addEventListener("click", ({ target }) => target.closest("a") && unfold(false));
  toggle.addEventListener("click", () => unfold(!node.classList.contains("unfolded")));

  log.addEventListener("scroll", () => (following = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR), { passive: true });
  const follow = () => following && (log.scrollTop = log.scrollHeight);

  // What can be asked.
  const choiceOf = (name) => choices.flatMap((group) => group.choices).find((choice) => choice.name === name);
  const drawModels = () => {
    choices = groups({ user, rows: Object.values(live.llms), ...lists });
    if (!open.model && lists.listed) open.model = firstChoice(choices);
    const chosen = choiceOf(open.model);
    const now = JSON.stringify([choices, open.model]);
    if (now !== shown && document.activeElement !== model) {
      shown = now;
      const option = ({ name, state }) => el("option", { value: name }, state === "ready" ? name : `${name} (${state})`);
      model.replaceChildren(...choices.map(({ label, choices }) => el("optgroup", { label }, choices.map(option))));
      if (!chosen) model.prepend(el("option", { value: open.model }, open.model || "No model"));
      model.value = open.model;
    }
    state.node.hidden = !chosen;
    if (chosen) state.set(chosen.state);
    ask.vision(Boolean(chosen?.vision));
  };
  model.addEventListener("change", () => {
    open.model = model.value;
    if (open.exchanges.length) keep(open);
    drawModels();
  });
  model.addEventListener("blur", drawModels);
  const look = async () => {
    const read = (path) => json("GET", path).catch(() => undefined);
    const [models, agents, aliases] = await Promise.all([read("v1/models"), read("api/v1/agents"), read("api/v1/aliases")]);
    if (left) return;
    if (!models) return ask.say("The models cannot be listed: the hub does not answer.");
    lists = { listed: models.data, agents: agents ?? [], aliases: aliases ?? [] };
    drawModels();
    if (!choices.length) ask.say("No model is there now. Publish one from the machine that runs it: virtual-llm publish");
  };

  // The conversation.
  const watched = (run, view) => {
    const changed = (answer) => {
      view.update();
      if (answer.running) return ask.say(answer.content ? "" : answer.thought ? "Thinking …" : "");
      ask.running(false);
      ask.say("");
      announce(answer.failed || answer.note || `Answer: ${(answer.content || answer.refusal).slice(0, SPOKEN)}`);
      list();
    };
    run.watchers.add(changed);
    view.unwatch = () => run.watchers.delete(changed);
  };
  const show = (exchange, index) => {
    const { question, answer } = exchange;
    const asked = questionView(question, (content) => repeat(index, { ...question, content }));
    views.push(asked);
    log.append(asked.node);
    if (!answer) return;
    const view = answerView(answer, { again: () => repeat(index, question), changed: follow });
    views.push(view);
    log.append(view.node);
    const run = runOf(open.id);
    if (run?.answer === answer) watched(run, view);
  };
  const draw = () => {
    const { exchanges, system } = open;
    for (const view of views) (view.unwatch?.(), view.dispose());
    views = [];
    log.replaceChildren();
    exchanges.forEach(show);
    if (!exchanges.length) log.append(el("div.welcome", {}, el("p", {}, "What do you want to know?"), el("p.note", {}, system ? "The system prompt of the settings is sent first." : "Questions go to the model that you choose above. The conversation stays in this browser.")));
    settings.replaceChildren(settingsForm(open, () => open.exchanges.length && keep(open)));
    ask.running(Boolean(runOf(open.id)));
    ask.say(runOf(open.id) ? "Answering …" : "");
    following = true;
    follow();
    drawModels();
    drawSide();
  };
  const drawOther = () => {
    draw();
    ask.fill(drafts.get(draftKey()));
  };
  const drawSide = () => {
    // A reload finds the conversation, also after the store has given it a new id.
    if (open.exchanges.length) history.replaceState(null, "", `#/talk/${encodeURIComponent(open.id)}`);
    side.draw(heads, open.id);
  };

  function send(question) {
    const key = draftKey();
    return submit(question) && (drafts.delete(key), true);
  }

  function submit(question) {
    if (runOf(open.id)) return false;
    if (!open.model) return ask.say("Choose a model first."), false;
    if (!open.exchanges.length) {
      log.replaceChildren();
      open.title = titleOf(question);
    }
    const exchange = { question };
    open.exchanges.push(exchange);
    const choice = choiceOf(open.model);
    const run = start(open, { vision: Boolean(choice?.vision), wait: choice && choice.state !== "away" });
    drawSide();
    show(exchange, open.exchanges.length - 1);
    ask.running(true);
    ask.say(choice?.state === "busy" ? "Waiting for a free place …" : choice?.state === "asleep" ? "Waking the model …" : "Waiting for the first token …");
    following = true;
    follow();
    run.saved.then(list);
    return true;
  }

  /** Asks the question of an exchange again, maybe in other words. What follows it goes. */
  async function repeat(index, question) {
    const talk = open;
    const run = runOf(talk.id);
    run?.stop();
    await run?.ended;
    // Another click may have come first.
    if (left || open !== talk || runOf(talk.id)) return;
    talk.exchanges.length = index;
    draw();
    submit(question);
    ask.focus();
  }

  // The list of conversations.
  async function list() {
    heads = await store.list(user).catch(() => []);
    if (!left) drawSide();
  }
  async function rename(id, title) {
    const talk = runOf(id)?.conversation ?? (open.id === id ? open : undefined);
    if (talk) talk.title = title;
    await store.rename(user, id, title).catch(() => {});
    list();
  }
  async function remove(id) {
    runOf(id)?.forget();
    await store.remove(id);
    await list();
    if (open.id === id) begin(open.model);
    else side.focus();
  }
  function begin(name) {
    unfold(false);
    open = fresh(user, name);
    if (location.hash !== "#/chat") history.pushState(null, "", "#/chat");
    drawOther();
    ask.focus();
  }

  const escape = (event) => {
    const run = runOf(open.id);
    if (event.key !== "Escape" || event.defaultPrevented || !run) return;
    event.preventDefault();
    run.stop();
    ask.focus();
  };
  document.addEventListener("keydown", escape);

  if (page === "talk" && open?.id !== wanted) {
    open = fresh(user);
    draw();
    store.load(user, wanted).catch(() => undefined).then((stored) => {
      if (left) return;
      if (stored) open = runOf(wanted)?.conversation ?? revived(stored);
      drawOther();
      if (!stored) ask.say("This conversation is not in this browser.");
    });
  } else {
    if (page === "chat" && wanted) open = fresh(user, wanted);
    open ??= fresh(user);
    drawOther();
  }
  list();
  look();
  store.keeps().then((keeps) => keeps || left || ask.say("This browser keeps no conversations: they are gone when the tab closes."));
  const unwatch = watch(drawModels);
  const clock = setInterval(look, LOOK);
  return {
    title: "Chat",
    wide: true,
    node,
    // On a touch screen the focus would open the keyboard.
    arrived: () => matchMedia("(hover: hover)").matches && ask.focus(),
    leave() {
      left = true;
      unwatch();
      clearInterval(clock);
      document.removeEventListener("keydown", escape);
      for (const view of views) (view.unwatch?.(), view.dispose());
    },
  };
}
