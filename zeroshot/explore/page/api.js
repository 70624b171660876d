// Requests to the server. The token came in the address; it lives in this tab, and travels in a header.
const KEY = "zeroshot-token";

export const takeToken = () => {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) {
    sessionStorage.setItem(KEY, found);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY);
};

export class Refused extends Error {
  constructor(answer, status) {
    super(answer.error ?? `the server answered ${status}`);
    this.hint = answer.hint ?? "";
    this.field = answer.field ?? "";
    this.status = status;
  }
}

const send = async (name, body, headers = {}, signal = undefined) => {
  const authorization = { Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}` };
  let response;
  try {
    response = await fetch(`/api/${name}`, { method: "POST", body, headers: { ...authorization, ...headers }, signal });
  } catch { throw new Refused({ error: "the server does not answer", hint: "is zeroshot explore still running?" }); }
  if (response.ok) return response;
  const said = await response.text().catch(() => "");
  let answer;
  try { answer = JSON.parse(said); } catch { answer = { error: said || undefined }; }
  throw new Refused(answer, response.status);
};

export const post = async (name, asked = {}, signal = undefined) =>
  (await send(name, JSON.stringify(asked), { "Content-Type": "application/json" }, signal)).json();
export const postForBlob = async (name, asked) =>
  (await send(name, JSON.stringify(asked), { "Content-Type": "application/json" })).blob();
// 16-bit numbers, as this machine and nearly all others hold them; null while there are none yet.
export const postForNumbers = async (name, asked) => {
  const response = await send(name, JSON.stringify(asked), { "Content-Type": "application/json" });
  return response.status === 202 ? null : new Uint16Array(await response.arrayBuffer());
};
export const postImage = async (file) => (await send("drop", file, { "Content-Type": "application/octet-stream" })).json();

// Of calls that come faster than they are answered, only the newest waits.
export const latest = (work) => {
  let running = false, waiting = null;
  const run = async (args) => {
    if (running) { waiting = args; return; }
    running = true;
    try { await work(...args); } finally {
      running = false;
      if (waiting) { const next = waiting; waiting = null; run(next); }
    }
  };
  return (...args) => run(args);
};

export const debounce = (work, milliseconds) => {
  let timer = 0;
  return (...args) => { clearTimeout(timer); timer = setTimeout(() => work(...args), milliseconds); };
};
