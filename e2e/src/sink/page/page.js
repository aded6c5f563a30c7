// Puts what has come on top, without closing what somebody has opened. Texts arrive escaped.
const shown = (page) => Number(page.getElementById("count").textContent);

async function look() {
  try {
    const answer = await fetch(location.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    // Numbers begin anew when the sink does.
    if (shown(page) < shown(document)) location.reload();
    const list = document.getElementById("messages");
    const fresh = [...page.querySelectorAll("article")].filter((one) => !document.getElementById(one.id));
    if (fresh.length) document.getElementById("nothing")?.remove();
    list.prepend(...fresh);
    document.getElementById("count").textContent = shown(page);
    [...list.querySelectorAll("article")].slice(200).forEach((one) => one.remove());
  } catch { /* The sink is away; it may come back. */ }
  setTimeout(look, 2000);
}
setTimeout(look, 2000);
