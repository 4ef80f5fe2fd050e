// What a person can do about an error of a call, from its code (SPEC.md section 5.1).

const AWAIT = "Try again in a moment";

const ADVICE = {
  model_not_found: "It is gone, or no longer visible to you: choose another model",
  publisher_away: "Choose another model, or wait until its owner publishes it again",
  not_published: "Choose another model, or ask its owner to publish it again",
  backend_unavailable: "Its server does not answer: ask its owner to start it, or choose another model",
  backend_key_refused: "Its owner has to renew the key of its server: choose another model meanwhile",
  publisher_refused: "Its owner has to renew a key: choose another model meanwhile",
  paused: "Its owner has paused it: choose another model meanwhile",
  waking: "It is waking up: try again in a minute",
  wake_failed: "Its owner has to start it: choose another model meanwhile",
  queue_full: "All its places are taken: try again in a moment, or choose another model",
  rate_limit_exceeded: "You have reached a limit: wait for other calls of yours to end",
  request_too_large: "Begin a new conversation, or attach fewer images",
  interrupted: "Its publisher went away in the middle of the answer: try again",
  stream_idle: "The model stopped in the middle of the answer: try again, or choose another model",
  timeout: `${AWAIT}, or ask for less at once`,
  internal_error: `${AWAIT}; if it comes again, tell an admin of the hub`,
};

/** An error's own words, then what to do. `error` has `message`, and `status` and `code` if it is the hub's. */
export function advice(error) {
  if (error.status === undefined) {
    const lost = error.brokeOff ? "The connection to the hub broke off" : "The hub cannot be reached";
    return `${lost}. Check the network and try again.`;
  }
  const said = `${error.message}`.replace(/[.\s]+$/, "");
  const tooLong = /context (length|size|window)|too long|maximum.*tokens/i.test(said) && "The conversation is too long for this model: begin a new one";
  const what = ADVICE[error.code] ?? (tooLong || (error.status < 500 && error.status > 0 ? undefined : `${AWAIT}, or choose another model`));
  return what ? `${sentence(said)}. ${what}.` : `${sentence(said)}.`;
}

const sentence = (said) => said.charAt(0).toUpperCase() + said.slice(1);
