// What the sealed statements need of JavaScript: node circuit.mjs MODULES compile|execute|refusals|setup ... (tests/zk/prover.py).
import { createRequire } from "module";
import { mkdirSync, readFileSync, writeFileSync } from "fs";
import { pathToFileURL } from "url";

const [modules, what, ...rest] = process.argv.slice(2);
const require = createRequire(pathToFileURL(modules + "/").href);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

if (what === "compile") {
  const [folder, out] = rest;
  const { compile, createFileManager } = await load("@noir-lang/noir_wasm");
  const { program } = await compile(createFileManager(folder));
  writeFileSync(out, JSON.stringify(program));
} else if (what === "execute") {
  const [program, input, out] = rest;
  const { Noir } = await load("@noir-lang/noir_js");
  const { witness } = await new Noir(JSON.parse(readFileSync(program))).execute(JSON.parse(readFileSync(input)));
  writeFileSync(out, witness);
} else if (what === "refusals") {
  const [program, ...inputs] = rest;
  const { Noir } = await load("@noir-lang/noir_js");
  const circuit = new Noir(JSON.parse(readFileSync(program)));
  for (const input of inputs) {
    const said = await circuit.execute(JSON.parse(readFileSync(input))).then(() => "", (error) => String(error.message ?? error));
    console.log(said.split("\n")[0]);
  }
} else {
  // Powers of a number that everybody can read here: whoever knows it can prove anything, so this is for tests alone.
  const [count, folder] = [Number(rest[0]), rest[1]];
  const { bn254 } = await load("@noble/curves/bn254.js");
  const order = bn254.fields.Fr.ORDER;
  const tau = 0x1234567890abcdef1234567890abcdefn;
  const word = (value) => value.toString(16).padStart(64, "0");
  const g1 = Buffer.alloc(64 * count);
  let power = 1n;
  for (let i = 0; i < count; i++) {
    const { x, y } = bn254.G1.Point.BASE.multiply(power).toAffine();
    g1.write(word(x) + word(y), 64 * i, "hex");
    power = (power * tau) % order;
  }
  const { x, y } = bn254.G2.Point.BASE.multiply(tau).toAffine();
  mkdirSync(folder, { recursive: true });
  writeFileSync(folder + "/bn254_g2.dat", Buffer.from([x.c0, x.c1, y.c0, y.c1].map(word).join(""), "hex"));
  writeFileSync(folder + "/bn254_g1.dat", g1);
}
