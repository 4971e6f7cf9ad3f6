import { Sorter, type SortInput } from "./sort.ts";

export type Question = { load: SortInput } | { forward: ArrayLike<number>; weights: Float32Array };

let sorter: Sorter | null = null;
const port = self as unknown as { onmessage: (event: MessageEvent<Question>) => void; postMessage: Worker["postMessage"] };

port.onmessage = ({ data }) => {
  if ("load" in data) {
    sorter = new Sorter(data.load);
  } else if (sorter !== null) {
    const order = sorter.order(data.forward, data.weights).slice();
    port.postMessage(order, [order.buffer]);
  }
};
