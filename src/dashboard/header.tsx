/** The page's head: which mesh this is, how it is, and how it is shown. */
import { useEffect, useState } from "preact/hooks";
import { api } from "./api.ts";
import { count } from "./format.ts";
import { type MeshState, store } from "./store.ts";

type Theme = "auto" | "light" | "dark";
const themes: readonly Theme[] = ["auto", "light", "dark"];
const themeKey = "node-mesh-theme";

export function Header({ mesh }: { mesh: MeshState }) {
  const connected = mesh.nodes.filter((node) => node.connected).length;
  const running = mesh.vms.filter(({ state }) => state === "running").length;
  return (
    <header class="top">
      <a class="brand" href="#/" aria-label="node-mesh, overview">
        <Mark />
        <span>node-mesh</span>
      </a>
      <p class="summary">
        <span>
          <b>{connected}</b> of {count(mesh.nodes.length, "node")} connected
        </span>
        <span>
          <b>{running}</b> of {count(mesh.vms.length, "VM")} running
        </span>
        {mesh.status !== null && <span class="wide-only">seen from {mesh.status.name}</span>}
      </p>
      <div class="tools">
        <ThemeChoice />
        <button type="button" class="quiet" onClick={signOut}>
          Sign out
        </button>
      </div>
    </header>
  );
}

async function signOut(): Promise<void> {
  await api.signOut().catch(() => {});
  store.signedOut();
}

function Mark() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M16 7 7 24h18z" />
      <circle cx="16" cy="7" r="5" class="strong" />
      <circle cx="7" cy="24" r="5" />
      <circle cx="25" cy="24" r="5" />
    </svg>
  );
}

function ThemeChoice() {
  const [theme, setTheme] = useState<Theme>(storedTheme());
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
    try {
      localStorage.setItem(themeKey, theme);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    window.dispatchEvent(new Event("themechange"));
  }, [theme]);
  const next = themes[(themes.indexOf(theme) + 1) % themes.length] ?? "auto";
  return (
    <button
      type="button"
      class="quiet"
      onClick={() => setTheme(next)}
      aria-label={`Theme: ${theme}. Change to ${next}`}
    >
      Theme: {theme}
    </button>
  );
}

function storedTheme(): Theme {
  try {
    const text = localStorage.getItem(themeKey);
    return themes.find((theme) => theme === text) ?? "auto";
  } catch {
    return "auto";
  }
}
