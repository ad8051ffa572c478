// What the service says when it cannot: its reason on the page; and the sign-in form where the session has ended.

const box = document.getElementById("problem");
const door = document.getElementById("sign-in");
const UNREACHED = "The service cannot be reached; is it still running?";
let waiting = [];
let refused = false;

export function tell(text) {
  box.textContent = text;
  box.hidden = !text;
  if (text) box.scrollIntoView({ block: "nearest" });
}

function reason(text, status) {
  try {
    return JSON.parse(text).detail;
  } catch {
    return `the service answered with ${status}; ask again`;
  }
}

// Asked to sign in again, what was wanted is done afterwards; nothing else on the page changes.
export function signIn(then) {
  waiting.push(then);
  if (!door.open) door.showModal();
}

door.addEventListener("close", () => (waiting = []));
door.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const said = form.querySelector(".reason");
  said.textContent = "";
  // The answer to the right token is a redirection, which leads nowhere here.
  const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "manual" });
  if (answer.type !== "opaqueredirect" && !answer.ok) {
    said.textContent = answer.status === 401 ? "That is not the token that the service was started with." : reason(await answer.text(), answer.status);
    return;
  }
  form.reset();
  const wanted = waiting;
  door.close();
  for (const then of wanted) then();
});

// fetch for the modules: JSON in, JSON out. Undefined where there is no answer, and the page then says why.
export async function ask(url, body, { signal } = {}) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  let text;
  try {
    answer = await fetch(url, { ...options, signal });
    text = await answer.text();
  } catch (error) {
    if (error.name !== "AbortError") tell(UNREACHED);
    return undefined;
  }
  if (answer.status === 401) return new Promise((done) => signIn(() => done(ask(url, body, { signal }))));
  if (answer.ok) {
    if (refused) tell("");
    refused = false;
    return JSON.parse(text);
  }
  refused = true;
  tell(reason(text, answer.status));
  return undefined;
}

// The same for what htmx asks.
document.addEventListener("htmx:beforeRequest", () => tell(""));
document.addEventListener("htmx:sendError", async ({ detail }) => {
  // A large upload of a stranger is cut off before its refusal can be read.
  const answer = await fetch("/stats").catch(() => null);
  if (answer?.status === 401) signIn(() => htmx.trigger(detail.elt, "retry"));
  else tell(answer ? "The service ended the connection; ask again." : UNREACHED);
});
document.addEventListener("htmx:responseError", ({ detail }) => {
  const { xhr, elt } = detail;
  if (xhr.status === 401) signIn(() => htmx.trigger(elt, "retry"));
  else tell(reason(xhr.responseText, xhr.status));
});
