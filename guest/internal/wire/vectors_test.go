package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden vectors anew")

type frameVector struct {
	Kind          byte   `json:"kind"`
	Offset        uint64 `json:"offset"`
	PayloadBase64 string `json:"payload_base64"`
	EncodedHex    string `json:"encoded_hex"`
}

type textVector struct {
	BytesHex string          `json:"bytes_hex"`
	JSON     json.RawMessage `json:"json"`
}

func text(s string) *Text { t := Text(s); return &t }

func ptr[T any](v T) *T { return &v }

func exampleProcesses() []ProcessInfo {
	running := ProcessInfo{ID: "p_01JD6Q0Y8V3K5T7W9X1Z2A4B6C", Pid: 7, Argv: []Text{"python3", "-c", "print(1)"},
		State: "running", StartedAt: 1763708823.25, Cwd: "/home/user", User: "user"}
	exited := ProcessInfo{ID: "p_01JD6Q0Y8V3K5T7W9X1Z2A4B6D", Pid: 8, Argv: []Text{"./caf\xe9", "é", ""},
		State: "exited", StartedAt: 1763708823.5, Cwd: "/tmp/a\nb", User: "root", Tag: text("build"), Pty: true,
		ExitCode: ptr(137), Signal: ptr(9), Error: nil, LimitHit: ptr("memory"),
		Usage:       &Usage{CPUSeconds: 0.5, WallSeconds: 1.25, PeakMemoryBytes: 104857600, OutputBytes: 12},
		StdoutBytes: 12}
	missing := ProcessInfo{ID: "p_01JD6Q0Y8V3K5T7W9X1Z2A4B6E", Pid: 9, Argv: []Text{"nosuch"}, State: "exited",
		StartedAt: 1763708824, Cwd: "/home/user", User: "user", ExitCode: ptr(127),
		Error: text("nosuch: no such file or directory"), Usage: &Usage{}}
	return []ProcessInfo{running, exited, missing}
}

func exampleFiles() []FileInfo {
	return []FileInfo{
		{Path: "/home/user/a.txt", Name: "a.txt", Type: "file", Size: 2, Mode: 0o644, UID: 1000, GID: 1000,
			User: "user", Group: "user", ModifiedAt: 1763708823.25, Inode: 42},
		{Path: "/tmp/\xff\nlink", Name: "\xff\nlink", Type: "symlink", Size: 7, Mode: 0o777, UID: 0, GID: 0,
			User: "root", Group: "root", ModifiedAt: 1763708823, Target: text("/etc/\x80x"), Inode: 43},
	}
}

func frameInputs() []frameVector {
	encode := base64.StdEncoding.EncodeToString
	info, _ := json.Marshal(exampleProcesses()[0])
	return []frameVector{
		{Kind: FrameStarted, PayloadBase64: encode(info)},
		{Kind: FrameStdout, PayloadBase64: encode([]byte("hello\n"))},
		{Kind: FrameStderr, Offset: 1 << 40, PayloadBase64: encode([]byte{0, 255, 128, 10})},
		{Kind: FrameGap, Offset: 8388608, PayloadBase64: encode([]byte{2, 0, 0, 0, 0, 0, 0, 128, 0})},
		{Kind: FrameKeepalive},
		{Kind: FrameStdout, Offset: 1<<64 - 1},
	}
}

func textInputs() []string {
	return []string{"", "plain", "quote\" back\\slash", "line\nfeed\ttab\rcr", "\x00\x01\x1f\x7f", "é ü 漢 😀", "\xff", "caf\xe9",
		"\xed\xb2\x80", "a\x80é\xc3", "\xf0\x9f\x98", "</script>&", "\u2028\u2029"}
}

func vectorFile(name string) string { return filepath.Join("..", "..", "testdata", "vectors", name) }

func golden(t *testing.T, name string, want any) []byte {
	t.Helper()
	made, err := json.MarshalIndent(want, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	made = append(made, '\n')
	if *update {
		if err := os.WriteFile(vectorFile(name), made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(vectorFile(name))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, made) {
		t.Errorf("%s is not what the code makes; if the wire was meant to change, run with -update", name)
	}
	return kept
}

func TestFrameVectors(t *testing.T) {
	vectors := frameInputs()
	for i := range vectors {
		payload, _ := base64.StdEncoding.DecodeString(vectors[i].PayloadBase64)
		vectors[i].EncodedHex = hex.EncodeToString(Frame(vectors[i].Kind, vectors[i].Offset, payload))
	}
	golden(t, "frames.json", vectors)
	if got := hex.EncodeToString(Gap(2, 32768, 8388608)); got != vectors[3].EncodedHex {
		t.Errorf("Gap() = %s", got)
	}
}

func TestTextVectors(t *testing.T) {
	var vectors []textVector
	for _, raw := range textInputs() {
		vectors = append(vectors, textVector{hex.EncodeToString([]byte(raw)), AppendText(nil, raw)})
	}
	var kept []textVector
	if err := json.Unmarshal(golden(t, "text.json", vectors), &kept); err != nil {
		t.Fatal(err)
	}
	for _, vector := range kept {
		var back Text
		if err := json.Unmarshal(vector.JSON, &back); err != nil || hex.EncodeToString([]byte(back)) != vector.BytesHex {
			t.Errorf("%s decodes to %q, %v", vector.JSON, back, err)
		}
	}
}

func TestShapeVectors(t *testing.T) {
	golden(t, "process.json", exampleProcesses())
	golden(t, "fileinfo.json", exampleFiles())
}

func TestTextRefusesSurrogatesThatStandForNoByte(t *testing.T) {
	var got Text
	for _, bad := range []string{`"\ud800"`, `"\udc00"`, `"\udc7f"`, `"\udd00"`, `"\ud83dx"`, `3`, `{}`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s decoded to %q", bad, got)
		}
	}
	if err := json.Unmarshal([]byte(`"\ud83d\ude00\/\b\f"`), &got); err != nil || got != "😀/\b\f" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestEnvKeepsRawBytesInKeys(t *testing.T) {
	var env Env
	raw := `{ "A\udcff" : "1\udc80" , "B":"x\"}{,", "C" :"" }`
	if err := json.Unmarshal([]byte(raw), &env); err != nil {
		t.Fatal(err)
	}
	if len(env) != 3 || env["A\xff"] != "1\x80" || env["B"] != `x"}{,` || env["C"] != "" {
		t.Errorf("got %q", env)
	}
	var back Env
	again, _ := json.Marshal(env)
	if err := json.Unmarshal(again, &back); err != nil || back["A\xff"] != "1\x80" {
		t.Errorf("%s → %q, %v", again, back, err)
	}
	for _, bad := range []string{`{"a":1}`, `["a"]`, `{"a":null}`, `{"a":{"b":"c"}}`, `"a"`} {
		if err := json.Unmarshal([]byte(bad), &env); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
