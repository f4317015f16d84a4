"""nginx as a plain reverse proxy: the yardstick of what a byte proxy costs."""

from __future__ import annotations

import os
import shutil
import subprocess

from bench.peers.peer import Peer, Place

__all__ = ["Nginx"]

# No logs, no buffering, kept-alive upstream connections: nginx at its cheapest for streams.
CONFIGURATION = """\
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  client_max_body_size 32m;
  upstream engine {{
    server 127.0.0.1:{upstream_port};
    keepalive 512;
    keepalive_requests 100000000;
    keepalive_timeout 4s;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


class Nginx(Peer):
    name = "nginx"

    def missing(self) -> str:
        if shutil.which("nginx"):
            return ""
        if os.geteuid() == 0 and shutil.which("apt-get"):
            subprocess.run(["apt-get", "install", "-y", "-q", "nginx"], check=False)
        return "" if shutil.which("nginx") else "apt-get install nginx"

    def command(self, place: Place) -> list[str]:
        # As root nginx would run its worker as another user, who can't read the private folder.
        user = "user root;" if os.geteuid() == 0 else ""
        config = place.folder / "nginx.conf"
        config.write_text(
            CONFIGURATION.format(
                user=user,
                folder=place.folder,
                port=place.port,
                upstream_port=place.upstream_port,
            )
        )
        return ["nginx", "-c", str(config), "-p", str(place.folder)]
