/** The dashboard's start: one page, drawn by the browser from what the API says. */
import { render } from "preact";
import { App } from "./app.tsx";

const root = document.getElementById("app");
if (root !== null) render(<App />, root);
