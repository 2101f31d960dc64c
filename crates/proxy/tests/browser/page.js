// What the pages share: calls and elements whose outcomes are reported to the page's own server.

const outcomes = {};

// Makes a call, and notes what a script can see of its answer.
async function call(name, url, options) {
  try {
    const answer = await fetch(url, options);
    const headers = Object.fromEntries(answer.headers);
    outcomes[name] = { type: answer.type, status: answer.status, headers, body: await answer.text() };
  } catch (error) {
    outcomes[name] = { type: "refused", error: String(error) };
  }
  return outcomes[name];
}

// Adds an element to the page, and waits until the browser is done with it.
function element(name, tag, attributes) {
  return new Promise((resolve) => {
    const added = Object.assign(document.createElement(tag), attributes);
    for (const event of ["load", "error"]) {
      added.addEventListener(event, () => {
        outcomes[name] = { type: event };
        resolve(added);
      });
    }
    document.body.append(added);
  });
}

// Sends a form, whose answer is shown in a frame.
async function form(name, url, enctype, value) {
  const frame = await element(`${name} frame`, "iframe", { name });
  const sent = document.createElement("form");
  Object.assign(sent, { action: url, method: "post", enctype, target: name });
  sent.append(Object.assign(document.createElement("input"), { name: value, value: "" }));
  document.body.append(sent);
  await new Promise((resolve) => {
    frame.addEventListener("load", resolve);
    sent.submit();
  });
}

async function report(next) {
  await fetch("/report", { method: "POST", body: JSON.stringify(outcomes) });
  location.href = next;
}
