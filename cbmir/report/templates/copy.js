// Blocks of commands get a button that copies them; where the clipboard is closed, their text is selected instead.
for (const block of document.querySelectorAll("pre[data-copy]")) {
  const button = document.createElement("button");
  const said = document.createElement("span");
  button.type = "button";
  button.className = "copy";
  button.textContent = `Copy ${block.dataset.copy}`;
  said.setAttribute("role", "status");
  said.className = "soft";
  block.before(button, " ", said);
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(block);
    try {
      await navigator.clipboard.writeText(block.textContent);
      said.textContent = "Copied.";
    } catch {
      said.textContent = "Selected: copy it with the keyboard.";
    }
  });
}
