package vmboot

import (
	"strings"
	"testing"

	"cloche/guest/internal/machine"
)

func TestWordsOfTheKernelsCommandLine(t *testing.T) {
	words, err := parseWords("console=ttyS0 quiet cloche.boot=1 cloche.mem=512 cloche.pids=256 cloche.cpus=0.5 cloche.ring=65536 root=x\n")
	want := Words{Boot: true, Ring: 65536, Limits: machine.Limits{MemoryMiB: 512, Pids: 256, CPUs: 0.5}}
	if err != nil || words != want {
		t.Errorf("%+v %v", words, err)
	}
	if words, err := parseWords("cloche.boot=1 cloche.vsock=1024"); err != nil || words != (Words{Boot: true, Vsock: 1024}) {
		t.Errorf("%+v %v", words, err)
	}
	if words, err := parseWords("quiet notcloche.boot=1 cloche.boot=0"); err != nil || words != (Words{}) {
		t.Errorf("%+v %v", words, err)
	}
}

func TestWordsThatMeanNothingAreRefused(t *testing.T) {
	for _, line := range []string{"cloche.mem=", "cloche.mem=-1", "cloche.mem=99999999999", "cloche.pids=x", "cloche.cpus=NaN",
		"cloche.cpus=1e9", "cloche.ring=-1", "cloche.ring=2147483648", "cloche.other=1", "cloche.vsock=", "cloche.vsock=0", "cloche.vsock=-1", "cloche.vsock=4294967295", "cloche.vsock=4294967296", "cloche.mem=9223372036854775808"} {
		if words, err := parseWords("quiet " + line); err == nil {
			t.Errorf("%s is %+v", line, words)
		}
	}
}

func TestNamesOfModules(t *testing.T) {
	names, err := moduleNames("a.ko\nb.ko\n\n")
	if err != nil || len(names) != 2 || names[1] != "b.ko" {
		t.Errorf("%q %v", names, err)
	}
	for _, order := range []string{"../a.ko", "/a.ko", "a/b.ko", strings.Repeat("a.ko\n", 65)} {
		if _, err := moduleNames(order); err == nil {
			t.Errorf("%.20q was taken", order)
		}
	}
}

func TestMissingLinesOfATable(t *testing.T) {
	lines := []string{"root:x:0:0::/root:/bin/sh", "user:x:1000:1000::/home/user:/bin/sh"}
	for table, want := range map[string]string{
		"":                                  lines[0] + "\n" + lines[1] + "\n",
		"root:*:0:0:::\n":                   lines[1] + "\n",
		"root:*:0:0:::":                     "\n" + lines[1] + "\n",
		"user:x:5:5:::\nroot:x:0:0:::\nx:y": "",
		"users:x:5:5:::\nroot:\n":           lines[1] + "\n",
	} {
		if got := missingLines(table, lines); got != want {
			t.Errorf("%q: %q", table, got)
		}
	}
}

func TestOnlyTheFirstProgramOfAMachineBoots(t *testing.T) {
	if words, wanted, err := Wanted(); wanted || err != nil {
		t.Errorf("%+v %v", words, err)
	}
}
