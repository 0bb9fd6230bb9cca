// Standard JSON on stdin, compiler output on stdout; argv[2] is the folder that holds node_modules, argv[3] the compiler's package.
const fs = require("fs");
const path = require("path");

const modules = path.join(process.argv[2], "node_modules");
const solc = require(path.join(modules, process.argv[3]));

const find = (name) => {
  const file = path.join(modules, name);
  return fs.existsSync(file) ? { contents: fs.readFileSync(file, "utf8") } : { error: `no ${name} in ${modules}` };
};
process.stdout.write(solc.compile(fs.readFileSync(0, "utf8"), { import: find }));
