package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"
)

func FuzzTextSurvivesJSON(f *testing.F) {
	for _, seed := range []string{"", "a", "caf\xe9", "\xff\xfe\x00", "\xed\xb2\x80", "é\u2028😀", "\"\\/\n\x7f", "\\udc80"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		encoded, err := json.Marshal(Text(raw))
		if err != nil || !json.Valid(encoded) {
			t.Fatalf("%q: %s %v", raw, encoded, err)
		}
		var back Text
		if err := json.Unmarshal(encoded, &back); err != nil || string(back) != raw {
			t.Fatalf("%q became %q: %v", raw, back, err)
		}
	})
}

func FuzzSpecsAreReadOrRefused(f *testing.F) {
	for _, seed := range []string{`{"argv":["a"]}`, `{"argv":["\udc80"],"env":{"\udcff":"\ud83d\ude00"}}`, `{"argv":["\ud800"]}`,
		`{"env":{"a":1}}`, `{"env":[]}`, `{"env":{"a":{}}}`, `{"argv":null,"env":null,"pty":{"rows":70000}}`,
		`{"env": { "a" : "b" , "c":"\\" } }`, `{"argv":[["a"]]}`, `{"timeout_seconds":1e999}`, `{"cwd":"\u0000"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var spec ProcessSpec
		if json.Unmarshal(body, &spec) != nil || spec.Check() != nil {
			return
		}
		encoded, err := json.Marshal(spec.Env)
		var back Env
		if err == nil {
			err = json.Unmarshal(encoded, &back)
		}
		if err != nil || len(back) != len(spec.Env) {
			t.Fatalf("%q: %v", encoded, err)
		}
	})
}

func FuzzFramesSayTheirLength(f *testing.F) {
	f.Add(byte(2), uint64(0), []byte("x"))
	f.Add(byte(6), ^uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, kind byte, offset uint64, payload []byte) {
		made := Frame(kind, offset, payload)
		length := binary.BigEndian.Uint32(made[4:8])
		if made[0] != kind || int(length) != len(payload) || binary.BigEndian.Uint64(made[8:16]) != offset ||
			!bytes.Equal(made[FrameHeader:], payload) || !bytes.Equal(made[1:4], []byte{0, 0, 0}) {
			t.Fatalf("%x", made)
		}
	})
}
