/** What a browser sees that is not signed in: how to be. */
import { useState } from "preact/hooks";
import { api } from "./api.ts";
import { store } from "./store.ts";

export function SignIn() {
  const [token, setToken] = useState("");
  const [trouble, setTrouble] = useState("");
  const used = location.hash === "#link-used";
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    try {
      await api.signIn(token.trim());
      location.hash = "";
      store.signedIn();
    } catch (error) {
      setTrouble((error as Error).message);
    }
  };
  return (
    <main class="sign-in" id="main" tabIndex={-1}>
      <section class="card" aria-labelledby="sign-in-title">
        <h1 id="sign-in-title">Sign in to node-mesh</h1>
        {used && (
          <p class="notice busy" role="alert">
            That link was used already, or is older than a minute. Ask for a new one.
          </p>
        )}
        <p>On the machine that this page is from, run</p>
        <pre>
          <code>node-mesh dashboard</code>
        </pre>
        <p>and open the link that it prints. It works once; this browser then stays signed in.</p>
        <form onSubmit={submit}>
          <label>
            Or give the node's token, from the file <code>api.token</code> in its data directory
            <input
              type="password"
              autocomplete="current-password"
              value={token}
              required
              onInput={(event) => setToken(event.currentTarget.value)}
            />
          </label>
          {trouble !== "" && (
            <p class="trouble" role="alert">
              {trouble}
            </p>
          )}
          <button type="submit" class="primary">
            Sign in
          </button>
        </form>
      </section>
    </main>
  );
}
