package execstep

import (
	"encoding/json"
	"testing"

	"cloche/guest/internal/wire"
)

func FuzzSpecsAreReadOrRefused(f *testing.F) {
	f.Add([]byte(`{"uid":1000,"gid":1000,"groups":[1],"cwd":"/tmp/caf\udce9","rlimits":{"core":0},"status_fd":3,"set_ids":true}`))
	f.Add([]byte(`{"uid":-1,"groups":null,"rlimits":{"core":-1}}`))
	f.Add([]byte(`{"cwd":"\ud800"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var spec wire.ExecSpec
		if json.Unmarshal(body, &spec) != nil {
			return
		}
		_ = candidates(string(spec.Cwd), []string{"PATH=" + string(spec.Cwd)})
	})
}

func TestTheDirectoryKeepsItsBytes(t *testing.T) {
	var spec wire.ExecSpec
	if err := json.Unmarshal([]byte(`{"cwd":"/tmp/caf\udce9"}`), &spec); err != nil || spec.Cwd != "/tmp/caf\xe9" {
		t.Errorf("%q %v", spec.Cwd, err)
	}
}
