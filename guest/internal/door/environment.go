package door

import (
	"net"
	"strings"
)

const noProxy = "localhost,127.0.0.1,::1,.localhost"

// Environment is what programs are told of the door. What the user says wins over each of them.
func (d *Door) Environment() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	env := map[string]string{}
	if d.settings.ProxyEnv && d.open.Load() {
		d.proxyEnv(env)
	}
	if d.settings.AuthorityPEM != "" && d.untrusted == nil {
		d.authorityEnv(env)
	}
	for name, value := range d.settings.Placeholders {
		env[name] = value
	}
	return env
}

// proxyEnv. ALL_PROXY is the HTTP proxy too: Python's httpx, and every SDK on it, fails at its start when it finds a
// SOCKS proxy there and not the package for it. Java has no variable of the like but one that it announces on stderr at
// each start, so that is only for where a redirect does not catch it.
func (d *Door) proxyEnv(env map[string]string) {
	address := d.address("proxy")
	if address == "" {
		return
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		env[name], env[strings.ToLower(name)] = "http://"+address, "http://"+address
	}
	env["NO_PROXY"], env["no_proxy"] = noProxy, noProxy
	env["NODE_USE_ENV_PROXY"] = "1"
	if !d.config.Redirect {
		env["JAVA_TOOL_OPTIONS"] = javaOptions(address)
	}
}

func javaOptions(address string) string {
	host, port, _ := net.SplitHostPort(address)
	var options []string
	for _, scheme := range []string{"http", "https"} {
		options = append(options, "-D"+scheme+".proxyHost="+host, "-D"+scheme+".proxyPort="+port)
	}
	return strings.Join(append(options, "-Dhttp.nonProxyHosts=localhost|127.*|[::1]|*.localhost"), " ")
}

// additive variables name authorities beside a program's own; the others replace those, so they need the whole bundle.
var (
	additive  = []string{"NODE_EXTRA_CA_CERTS", "DENO_CERT"}
	replacing = []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT",
		"AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO"}
)

func (d *Door) authorityEnv(env map[string]string) {
	for _, name := range additive {
		env[name] = d.config.Trust.authority()
	}
	for _, name := range replacing {
		if d.bundle {
			env[name] = d.config.Trust.bundle()
		}
	}
}

func (d *Door) address(name string) string {
	for _, listener := range d.Listeners() {
		if listener.Name == name && len(listener.Addresses) > 0 {
			return listener.Addresses[0]
		}
	}
	return ""
}
