package contexts

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"cloche/guest/internal/wire"
)

type said struct {
	kind    byte
	payload string
}

func parse(t *testing.T, pieces ...[]byte) (all []said, err error) {
	t.Helper()
	var p parser
	for _, piece := range pieces {
		err = p.feed(piece, func(kind byte, payload []byte) { all = append(all, said{kind, string(payload)}) })
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func TestFramesAreWholeHoweverTheyArrive(t *testing.T) {
	stream := append(frame(frameStdout, []byte("hello")), frame(frameSync, nil)...)
	stream = append(stream, frame(frameDone, []byte("3 ok"))...)
	stream = append(stream, frame(frameValue, bytes.Repeat([]byte("x"), 300_000))...)
	for _, size := range []int{1, 2, 5, 7, 1000, 65536, len(stream)} {
		var pieces [][]byte
		for rest := stream; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			pieces = append(pieces, rest[:min(size, len(rest))])
		}
		all, err := parse(t, pieces...)
		if err != nil || len(all) != 4 || all[0].payload != "hello" || all[1].kind != frameSync || len(all[3].payload) != 300_000 {
			t.Fatalf("pieces of %d: %d frames, %v", size, len(all), err)
		}
	}
}

func TestWhatIsNoFrameEndsTheStream(t *testing.T) {
	for _, bad := range [][]byte{[]byte("print"), {frameStdout, 0xff, 0, 0, 0}, {frameSync, 0, 0, 0, 1}, {0, 0, 0, 0, 0}} {
		if _, err := parse(t, frame(frameSync, nil), bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(append(frame(frameStdout, []byte("x")), frame(frameDone, []byte("1 ok"))...), 3)
	f.Add([]byte{frameValue, 0, 0, 0, 9, 0, 0, 0, 2, '{', '}'}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		if cut < 0 || cut > len(stream) {
			cut = len(stream) / 2
		}
		one, errOne := parse(t, stream)
		two, errTwo := parse(t, stream[:cut], stream[cut:])
		if (errOne == nil) != (errTwo == nil) || len(one) != len(two) {
			t.Fatalf("%v and %v, %d and %d frames", errOne, errTwo, len(one), len(two))
		}
		for _, said := range one {
			readDone([]byte(said.payload))
			problem([]byte(said.payload))
			checkResult(t, []byte(said.payload))
		}
	})
}

// checkResult: whatever a program says, the event is one line of JSON that is small enough.
func checkResult(t *testing.T, payload []byte) {
	t.Helper()
	make := resultEvent("value", payload)
	if make == nil {
		return
	}
	line := make(1)
	var event struct{ Data, Metadata map[string]any }
	if err := json.Unmarshal(line, &event); err != nil || bytes.IndexByte(line, '\n') != len(line)-1 || len(line) > 16<<20 {
		t.Fatalf("%d bytes: %v: %.200q", len(line), err, line)
	}
}

func FuzzBundles(f *testing.F) {
	f.Add([]byte("{}"), []byte("text/plain"), []byte("\xff\n\""), []byte("a/json"), []byte(`{"a":[1,"\ud800",1e5]}`))
	f.Add([]byte("[1]"), []byte("application/json"), []byte("NaN"), []byte("x"), []byte{})
	f.Fuzz(func(t *testing.T, metadata, one, first, two, second []byte) {
		checkResult(t, joined(metadata, []byte("left/out\n\x00"), one, first, two, second))
	})
}

func joined(parts ...[]byte) (payload []byte) {
	for _, part := range parts {
		payload = append(payload, frame(0, part)[1:]...)
	}
	return payload
}

func event(t *testing.T, payload []byte) (found struct {
	Data    map[string]any
	LeftOut []string `json:"left_out"`
}) {
	t.Helper()
	if err := json.Unmarshal(resultEvent("value", payload)(7), &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTheLargestRepresentationsAreLeftOutAndNamed(t *testing.T) {
	large := bytes.Repeat([]byte("\x01"), 4<<20) // six bytes each as JSON
	found := event(t, joined(nil, []byte("a/b"), []byte("text/html"), large, []byte("text/plain"), []byte("x")))
	if found.Data["text/plain"] != "x" || len(found.Data) != 1 || strings.Join(found.LeftOut, " ") != "text/html a/b" {
		t.Errorf("%v %v", len(found.Data), found.LeftOut)
	}
}

func TestJSONThatNobodyCouldReadIsLeftOut(t *testing.T) {
	for _, bad := range []string{"", "NaN", "1e999", strings.Repeat("[", 200) + strings.Repeat("]", 200), `{"a":`, "1 2"} {
		found := event(t, joined(nil, nil, []byte("application/json"), []byte(bad)))
		if len(found.Data) != 0 || len(found.LeftOut) != 1 {
			t.Errorf("%q became %v", bad, found.Data)
		}
	}
	found := event(t, joined(nil, nil, []byte("application/json"), []byte(`{"a": "\ud800"}`)))
	if found.Data["application/json"].(map[string]any)["a"] != "\ufffd" {
		t.Errorf("%v", found.Data)
	}
}

func TestJSONIsWrittenAsItIsWithoutWhatOnlySomeCanRead(t *testing.T) {
	for raw, want := range map[string]string{
		" [ 1 , -2.5e+3, true,null ] ": `[1,-2.5e+3,true,null]`, `{"a": {"b\"]": []}}`: `{"a":{"b\"]":[]}}`, `"\u00e9\/ <"`: `"é/ <"`,
		"\"a\xffb\"": "\"a\ufffdb\"", `"\ud83d\ude00"`: `"😀"`, `0`: `0`, `"\\"`: `"\\"`} {
		if clean, ok := cleanJSON([]byte(raw)); !ok || string(clean) != want {
			t.Errorf("%s became %s, not %s", raw, clean, want)
		}
	}
	if _, ok := cleanJSON([]byte(strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth))); !ok {
		t.Error("the depth that may be was refused")
	}
}

func TestTheSizeOfATextIsKnownBeforeItIsWritten(t *testing.T) {
	for _, text := range []string{"", "a\n\"\\\x01\x7f\r\t", "é😀\xff\xe6\xbc", string([]byte{0, 0xed, 0xa0, 0x80})} {
		if got := len(wire.AppendText(nil, text)); got != escapedSize([]byte(text)) {
			t.Errorf("%q: %d, not %d", text, escapedSize([]byte(text)), got)
		}
	}
}

func TestValuesOfMorePartsThanTheHostTakesAreLeftOut(t *testing.T) {
	wide := []byte("[" + strings.Repeat("0,", wire.MaxItems) + "0]")
	keys := []byte(strings.Repeat(`":`, wire.MaxItems))
	found := event(t, joined(nil, nil, []byte("application/json"), wide, []byte("text/plain"), keys, []byte("text/html"), []byte("<b>")))
	if len(found.Data) != 1 || found.Data["text/html"] != "<b>" || len(found.LeftOut) != 2 {
		t.Errorf("%v %v", len(found.Data), found.LeftOut)
	}
}

func FuzzCleanJSON(f *testing.F) {
	f.Add([]byte(`{"a": [1, "\ud800", -0.0e1, {}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		clean, ok := cleanJSON(raw)
		if ok && (!json.Valid(clean) || !json.Valid(raw)) {
			t.Errorf("%q became %q", raw, clean)
		}
	})
}

func TestFramesWithoutAnEndAreBoundedInAll(t *testing.T) {
	var all []*parser
	defer func() {
		for _, p := range all {
			p.forget()
		}
	}()
	piece := frame(frameValue, make([]byte, maxBundle))[:maxBundle]
	for range 8 {
		p := &parser{}
		all = append(all, p)
		if p.feed(piece, nil) != nil {
			t.Fatal("refused too early")
		}
	}
	p := &parser{}
	all = append(all, p)
	if p.feed(piece, nil) == nil {
		t.Error("one more was taken")
	}
	all[0].forget()
	if p.forget(); p.feed(piece, nil) != nil {
		t.Error("there was room")
	}
}

func TestNamesThatAreNoTypesAreDropped(t *testing.T) {
	for _, name := range []string{"", "plain", "text/plain\n", "té/xt", `a/"b`, strings.Repeat("a/", 100)} {
		if found := event(t, joined(nil, nil, []byte(name), []byte("x"))); len(found.Data) != 0 {
			t.Errorf("%q was taken", name)
		}
	}
}

func TestUnfinishedCharacters(t *testing.T) {
	for text, want := range map[string]int{"": 0, "a": 0, "é": 0, "\xc3": 1, "a\xe6\xbc": 2, "\xf0\x9f\x98": 3, "\xf0\x9f\x98\x80": 0,
		"\xff": 0, "\x80\x80\x80": 0, "a\x80": 0} {
		if got := unfinished([]byte(text)); got != want {
			t.Errorf("%q: %d, not %d", text, got, want)
		}
	}
}

func TestEnvironmentsDiffer(t *testing.T) {
	got := difference([]string{"A=1", "B=2", "C=3"}, []string{"A=1", "B=5", "D=x=y"})
	if strings.Join(got, " ") != "B=5 C D=x=y" {
		t.Error(got)
	}
	if script := string(bashEnv([]string{"B=it's", "C", "bad-name=1", "1x=2"})); script != "export B='it'\\''s'\nunset C\n" {
		t.Errorf("%q", script)
	}
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]bool{"Python 3.8.18": true, "Python 3.13.0rc1": true, "Python 3.7.9": false, "Python 2.7.18": false,
		"": false, "Python 4.0": true, "pyenv: no version": false} {
		if newEnough(text, [2]int{3, 8}) != want {
			t.Errorf("%q", text)
		}
	}
	for _, program := range []string{pythonProgram, nodeProgram, bashProgram} {
		if len(program) > 60<<10 {
			t.Error("a program must fit into a pipe")
		}
	}
}
