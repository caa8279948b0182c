package contexts

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
)

//go:embed programs/python/*.py programs/javascript/*.js programs/kernel.sh
var programs embed.FS

// pythonParts make one program, in this order: each uses names of those before it.
var pythonParts = []string{"start", "frames", "streams", "results", "figures", "stand_ins", "errors", "running", "reseeding", "life"}

var (
	pythonProgram = joinedParts()
	nodeProgram   = program("javascript/kernel.js")
	bashProgram   = program("kernel.sh")
)

func program(name string) string {
	text, err := programs.ReadFile("programs/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	return string(text)
}

func joinedParts() string {
	var all strings.Builder
	for _, part := range pythonParts {
		all.WriteString(program("python/" + part + ".py"))
	}
	return all.String()
}

// The programs come through a pipe, not as an argument: what `ps` shows stays readable. The pipe may be a small one, when
// its user has many: so they are read piece by piece.

const pythonStart = `exec("""from os import read
code = b""
while len(code) < %[1]d:
    more = read(3, %[1]d - len(code))
    if not more:
        raise SystemExit
    code += more
exec(compile(code, "<cloche>", "exec"), {"__builtins__": dict(__import__("builtins").__dict__), "__name__": "<cloche>"})""", {})`

func pythonArgv(path string) []string {
	return []string{path, "-c", fmt.Sprintf(pythonStart, len(pythonProgram))}
}

const nodeStart = `{
const code = Buffer.alloc(%d);
for (let at = 0, more = 1; more && at < code.length; at += more) more = require("fs").readSync(3, code, at, code.length - at, null);
require("vm").runInThisContext(code.toString(), { filename: "cloche:kernel" })(require, module)
}`

// Code that is stopped within a callback leaves Node's stack of asynchronous ids unbalanced: checked, that is fatal.
func nodeArgv(path string) []string {
	return []string{path, "--no-force-async-hooks-checks", "-e", fmt.Sprintf(nodeStart, len(nodeFirst()))}
}

// nodeFirst is the program with the text of its second thread put in: that needs no file and no second read.
var nodeFirst = sync.OnceValue(func() string {
	return strings.Replace(nodeProgram, `"STOPPER"`, quotedJSON(program("javascript/stopper.js")), 1)
})

func quotedJSON(text string) string {
	quoted, _ := json.Marshal(text)
	return string(quoted)
}
