// Proxy: one origin for page, API and WebSocket, and the page's security headers.
//
// Here and not in next.config's rewrites, because those are frozen at build and the service's address is known at start.

import { NextResponse, type NextRequest } from "next/server";
import { readEnv } from "@/lib/env";

const IS_DEV = process.env.NODE_ENV === "development";

export function proxy(request: NextRequest): NextResponse {
  return request.nextUrl.pathname === "/" ? withPolicy(request) : toService(request);
}

function toService(request: NextRequest): NextResponse {
  const { pathname, search } = request.nextUrl;
  return NextResponse.rewrite(new URL(pathname.replace(/^\/api\//, "/") + search, readEnv(process.env).serviceUrl));
}

function withPolicy(request: NextRequest): NextResponse {
  const nonce = crypto.randomUUID();
  const policy = contentPolicy(nonce);
  const headers = new Headers(request.headers);
  // Next reads the nonce from this request header and puts it on every script it writes.
  headers.set("content-security-policy", policy);
  const response = NextResponse.next({ request: { headers } });
  response.headers.set("content-security-policy", policy);
  return response;
}

function contentPolicy(nonce: string): string {
  return [
    "default-src 'self'",
    `script-src 'self' 'nonce-${nonce}' 'strict-dynamic'${IS_DEV ? " 'unsafe-eval'" : ""}`,
    // lightweight-charts writes a style element for its attribution, React writes style attributes.
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

export const config = { matcher: ["/", "/api/:path*", "/live"] };
