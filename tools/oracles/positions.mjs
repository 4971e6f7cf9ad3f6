// Where three.js' GLTFLoader and AnimationMixer put the points: node positions.mjs rose.glb out.f32 SECONDS...
// writes the world positions at every time, one after the other, as float32.
import { readFileSync, writeFileSync } from "node:fs";
import { AnimationMixer, LoopOnce, Mesh, Vector3 } from "three";
import { GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";

const [path, out, ...seconds] = process.argv.slice(2);
const file = readFileSync(path);
const gltf = await new GLTFLoader().parseAsync(file.buffer.slice(file.byteOffset, file.byteOffset + file.length), "");
const points = gltf.scene.getObjectByName("gaussians");
const mixer = new AnimationMixer(gltf.scene);
const actions = gltf.animations.map((clip) => mixer.clipAction(clip));
for (const action of actions) {
  action.setLoop(LoopOnce);
  action.clampWhenFinished = true;
  action.play();
}
const count = points.geometry.attributes.position.count;
const all = new Float32Array(seconds.length * count * 3);
const vertex = new Vector3();
seconds.forEach((t, i) => {
  for (const action of actions) action.reset(); // one that has reached its end stays there otherwise
  mixer.setTime(Number(t));
  gltf.scene.updateMatrixWorld(true);
  for (let j = 0; j < count; j++) {
    Mesh.prototype.getVertexPosition.call(points, j, vertex);
    vertex.applyMatrix4(points.matrixWorld).toArray(all, (i * count + j) * 3);
  }
});
writeFileSync(out, all);
