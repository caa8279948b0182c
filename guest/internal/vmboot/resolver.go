package vmboot

import "os"

// resolver is what the images that the host makes have, too (src/cloche/images/host.py).
const resolver = "# names are asked of the sandbox's own guest\nnameserver 127.0.0.1\noptions timeout:5 attempts:1\n"

// askThisMachine: an image of somebody else's says who answered names where it was made. It is replaced, not written
// through: it may be a link to a file that only an init system would make. A root that cannot be written keeps its own.
func askThisMachine(place string) {
	if known, err := os.ReadFile(place); err == nil && string(known) == resolver {
		return
	}
	made := place + ".cloche"
	if err := os.WriteFile(made, []byte(resolver), 0o644); err != nil {
		return
	}
	if os.Rename(made, place) != nil {
		_ = os.Remove(made)
	}
}
