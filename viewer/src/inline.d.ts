declare module "inline-worker:*" {
  /** The bundled script of a worker. */
  const source: string;
  export default source;
}
