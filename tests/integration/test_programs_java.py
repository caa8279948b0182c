"""Java knows no variable for proxies or authorities: it comes by the redirect, and trusts by a store of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloche import Sandbox
from tests.integration.program_boxes import node_of, told
from tests.integration.program_world import DENIED, INSPECTED, PARTLY, World, program_world

SOURCE = """
import java.net.*;
import java.net.http.*;
public class Fetch {
    public static void main(String[] urls) throws Exception {
        for (String url : urls) {
            try {
                if (url.startsWith("+")) {
                    newer(url.substring(1));
                    continue;
                }
                HttpURLConnection asked = (HttpURLConnection) new URI(url).toURL().openConnection();
                int status = asked.getResponseCode();
                var body = status < 400 ? asked.getInputStream() : asked.getErrorStream();
                System.out.println(status + " " + new String(body.readAllBytes()).strip());
            } catch (java.io.IOException error) {
                System.out.println("failed " + error.getClass().getSimpleName());
            }
        }
    }

    /** This client proposes HTTP/2 wherever it asks. */
    static void newer(String url) throws Exception {
        var asked = HttpRequest.newBuilder(new URI(url)).POST(HttpRequest.BodyPublishers.ofString("abc"));
        var answer = HttpClient.newHttpClient().send(asked.build(), HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.version() + " " + answer.body().strip());
    }
}
"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with program_world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def box(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    home = tmp_path_factory.mktemp("node") / "home"
    with (
        node_of("namespace", request, home, **world.settings) as create,
        create(net=world.net) as made,
    ):
        if made.exec("java", "--version").exit_code:
            pytest.skip("java is not installed")
        made.files.write("Fetch.java", SOURCE)
        yield made


def test_java_fetches_and_is_refused(box, world):
    urls = [
        world.url(INSPECTED),
        world.url(INSPECTED, "https"),
        world.url(PARTLY, "https", "/open/page.json"),
        world.url(PARTLY, "https", "/other"),
        world.url(DENIED),
        f"+{world.url(INSPECTED, path='/echo')}",
        f"+{world.url(INSPECTED, 'https', '/echo')}",
    ]
    done = told(box, "redirect", "java", "-Xmx200m", "Fetch.java", *urls)
    said = done.stdout.splitlines()
    assert said[0] == f"200 hello from {INSPECTED} over http", done.stdout + done.stderr
    assert said[1:3] == [f"200 hello from {INSPECTED} over https", '200 {"open": true}'], done.stdout + done.stderr
    assert said[3].startswith("403 ") and "egress_denied" in said[3]
    assert said[4] == "failed UnknownHostException"
    assert said[5:] == ["200 HTTP_1_1 POST 3"] * 2
    assert done.stderr == ""
