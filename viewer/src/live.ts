// The page served by `gs4d view`: fetches its splats, and fetches them again whenever the server says that they changed.

export interface News {
  /** Changes with the splats; empty while there are none. */
  version: string;
  /** What to show about the run; empty for a file or a finished run. */
  status: string;
  finished: boolean;
}

/** Calls `update` with every new state of the splats and `say` with what is known about the run. */
export function follow(
  source: string,
  update: (bytes: ArrayBuffer) => Promise<void>,
  say: (text: string, state: "live" | "finished" | "lost") => void,
): void {
  let shown = "";
  let loading = false;
  let latest: News | null = null;

  const load = async (): Promise<void> => {
    if (loading) return;
    loading = true;
    try {
      while (latest !== null && latest.version !== "" && latest.version !== shown) {
        const { version } = latest;
        const answer = await fetch(`${source}?${version}`);
        if (!answer.ok) throw new Error((await answer.text()).trim());
        await update(await answer.arrayBuffer());
        shown = version;
      }
    } catch (error) {
      say(error instanceof Error ? error.message : String(error), "lost");
    } finally {
      loading = false;
    }
  };

  const events = new EventSource("events");
  events.onmessage = ({ data }) => {
    latest = JSON.parse(data as string) as News;
    say(latest.status, latest.finished ? "finished" : "live");
    void load();
  };
  events.onerror = () => say("gs4d view has stopped; this is the last that it sent", "lost");
}
