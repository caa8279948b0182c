package vmboot

import (
	"fmt"
	"strconv"
	"strings"

	"cloche/guest/internal/machine"
)

// Words are what the kernel's command line says to the guest: `cloche.boot=1`, `cloche.mem=MIB`, `cloche.pids=N`,
// `cloche.cpus=X`, `cloche.ring=BYTES`, `cloche.vsock=PORT`.
type Words struct {
	Boot   bool
	Limits machine.Limits
	Ring   int    // bytes of output kept of each stream; 0 is the default
	Vsock  uint32 // where the host comes to, instead of the serial port; 0 is none
}

const (
	prefix      = "cloche."
	largestRing = 1 << 30
	anyPort     = 1<<32 - 1 // the kernel would choose one
)

// parseWords refuses a word of ours that it does not know: the host meant something by it.
func parseWords(line string) (words Words, err error) {
	for _, word := range strings.Fields(line) {
		name, value, _ := strings.Cut(word, "=")
		if name, ours := strings.CutPrefix(name, prefix); ours && err == nil {
			if err = words.take(name, value); err != nil {
				err = fmt.Errorf("the kernel's command line says %s: %w", word, err)
			}
		}
	}
	if err == nil {
		err = words.Limits.Check()
	}
	return words, err
}

func (w *Words) take(name, value string) (err error) {
	switch name {
	case "boot":
		w.Boot = value == "1"
	case "mem":
		w.Limits.MemoryMiB, err = strconv.ParseInt(value, 10, 64)
	case "pids":
		w.Limits.Pids, err = strconv.ParseInt(value, 10, 64)
	case "cpus":
		w.Limits.CPUs, err = strconv.ParseFloat(value, 64)
	case "ring":
		w.Ring, err = strconv.Atoi(value)
		if err == nil && (w.Ring < 0 || w.Ring > largestRing) {
			err = fmt.Errorf("not from 0 to %d", largestRing)
		}
	case "vsock":
		var port uint64
		port, err = strconv.ParseUint(value, 10, 32)
		w.Vsock = uint32(port)
		if err == nil && (port == 0 || w.Vsock == anyPort) {
			err = fmt.Errorf("no port to listen on")
		}
	default:
		err = fmt.Errorf("not a word that this guest knows")
	}
	return err
}
