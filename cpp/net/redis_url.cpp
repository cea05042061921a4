// SPDX-License-Identifier: Apache-2.0
// Messages quote the scheme and, in a URL without '@', the names of query keys; nothing else: where
// a password holds '/', '?' or ':' that is not percent-encoded, or its '@' was forgotten, pieces of
// it end up as port, path or query.
#include <lmcache/net/redis_url.hpp>

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

namespace lmcache {
namespace {

constexpr std::uint16_t kServerPort = 6379;
constexpr std::uint16_t kSentinelPort = 26379;
constexpr std::uint32_t kMaxDatabase = 0x7FFFFFFF;  // SELECT takes an int

enum class Place : std::uint8_t { kHosts, kSocket };
struct Scheme {
  std::string_view name;
  RedisUrl::Mode mode = RedisUrl::Mode::kSingle;
  bool tls = false;
  Place place = Place::kHosts;
};
constexpr std::array kSchemes = {
    Scheme{.name = "redis"},
    Scheme{.name = "rediss", .tls = true},
    Scheme{.name = "valkey"},
    Scheme{.name = "valkeys", .tls = true},
    Scheme{.name = "unix", .place = Place::kSocket},
    Scheme{.name = "redis-cluster", .mode = RedisUrl::Mode::kCluster},
    Scheme{.name = "rediss-cluster", .mode = RedisUrl::Mode::kCluster, .tls = true},
    Scheme{.name = "redis-sentinel", .mode = RedisUrl::Mode::kSentinel},
};

Error refused(std::string const& why) {
  return Error{ErrorCode::kInvalidArgument, "Redis URL: " + why};
}

std::string lower(std::string_view text) {
  std::string out{text};
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

bool is_scheme_text(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.';
  });
}

Result<Scheme> find_scheme(std::string_view name) {
  for (auto const& scheme : kSchemes) {
    if (scheme.name == name) return scheme;
  }
  std::string allowed;
  for (auto const& scheme : kSchemes) {
    if (!allowed.empty()) allowed += ", ";
    allowed.append(scheme.name).append("://");
  }
  return refused((is_scheme_text(name) ? "unknown scheme '" + std::string{name} + "'"
                                       : std::string{"unknown scheme"}) +
                 "; allowed are " + allowed);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Result<std::string> decoded(std::string_view text, char const* what) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    char c = text[at];
    if (c == '%') {
      int const high = at + 2 < text.size() ? hex_digit(text[at + 1]) : -1;
      int const low = at + 2 < text.size() ? hex_digit(text[at + 2]) : -1;
      if (high < 0 || low < 0) {
        return refused(std::string{"a % in the "} + what +
                       " is not followed by two hexadecimal digits; a % itself is written %25");
      }
      c = static_cast<char>(high * 16 + low);
      at += 2;
    }
    // C interfaces (file names, getaddrinfo) would end there.
    if (c == '\0') return refused(std::string{"a NUL in the "} + what + " is not allowed");
    out += c;
  }
  return out;
}

std::string encoded(std::string_view text, std::string_view kept) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (char const c : text) {
    bool const plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view{"-._~"}.find(c) != std::string_view::npos ||
                       kept.find(c) != std::string_view::npos;
    if (plain) {
      out += c;
      continue;
    }
    auto const code = static_cast<unsigned char>(c);
    out.append({'%', kDigits[code >> 4], kDigits[code & 15]});
  }
  return out;
}

std::optional<std::uint32_t> number(std::string_view text, std::uint32_t most) {
  std::uint32_t value = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > most) return std::nullopt;
  return value;
}

Result<std::uint32_t> parse_database(std::string_view text) {
  auto const database = number(text, kMaxDatabase);
  if (!database) {
    return refused("bad database; allowed is a number from 0 to " + std::to_string(kMaxDatabase));
  }
  return *database;
}

// "name", "name:port", "[v6]" or "[v6]:port".
Result<RedisUrl::Host> parse_host(std::string_view text, std::uint16_t usual_port) {
  RedisUrl::Host host{.name = {}, .port = usual_port};
  std::string_view name = text.substr(0, text.find(':'));
  std::string_view rest = text.substr(name.size());
  bool const bracketed = text.starts_with('[');
  if (bracketed) {
    auto const end = text.find(']');
    if (end == std::string_view::npos) return refused("the [ of a host has no ]");
    name = text.substr(1, end - 1);
    rest = text.substr(end + 1);
  }
  if (rest.starts_with(':') && rest.find(':', 1) != std::string_view::npos) {
    return refused("a host has more than one ':'; an IPv6 address is written in [ and ]");
  }
  LMC_TRY_ASSIGN(host.name, decoded(name, "host"));
  if (host.name.empty()) return refused("a host is missing; expected is host[:port]");
  auto const out_of_place = [](char c) {
    return static_cast<unsigned char>(c) <= ' ' || c == 0x7F ||
           std::string_view{"/?#@[],"}.find(c) != std::string_view::npos;
  };
  if (std::any_of(host.name.begin(), host.name.end(), out_of_place)) {
    return refused("a host holds a character that no host name has");
  }
  in6_addr address{};
  auto const bare = host.name.substr(0, host.name.find('%'));  // without the zone
  if (bracketed && ::inet_pton(AF_INET6, bare.c_str(), &address) != 1) {
    return refused("between [ and ] an IPv6 address is expected");
  }
  if (rest.empty()) return host;
  auto const port = rest[0] == ':' ? number(rest.substr(1), 65535) : std::nullopt;
  if (!port || *port == 0) return refused("bad port; allowed is a number from 1 to 65535");
  host.port = static_cast<std::uint16_t>(*port);
  return host;
}

Result<void> parse_hosts(std::string_view text, RedisUrl& url) {
  auto const usual = url.mode == RedisUrl::Mode::kSentinel ? kSentinelPort : kServerPort;
  for (;;) {
    auto const end = std::min(text.find(','), text.size());
    LMC_TRY_ASSIGN(auto host, parse_host(text.substr(0, end), usual));
    url.hosts.push_back(std::move(host));
    if (end == text.size()) break;
    text.remove_prefix(end + 1);
  }
  if (url.mode == RedisUrl::Mode::kSingle && url.hosts.size() > 1) {
    return refused(
        "several hosts are allowed for redis-cluster://, rediss-cluster:// and "
        "redis-sentinel:// only");
  }
  return {};
}

// Takes "user:password@" off the front of the authority. The last '@' ends it, so one in a password
// need not be encoded.
Result<void> take_user(std::string_view& authority, RedisUrl& url) {
  auto const end = authority.rfind('@');
  if (end == std::string_view::npos) return {};
  auto const who = authority.substr(0, end);
  authority.remove_prefix(end + 1);
  auto const colon = std::min(who.find(':'), who.size());
  LMC_TRY_ASSIGN(url.user, decoded(who.substr(0, colon), "user"));
  if (colon < who.size()) {
    LMC_TRY_ASSIGN(url.password, decoded(who.substr(colon + 1), "password"));
  }
  return {};
}

// What follows the hosts: "", "/", "/database", "/master" or "/master/database".
Result<std::optional<std::uint32_t>> parse_path(std::string_view path, RedisUrl& url) {
  if (!path.empty()) path.remove_prefix(1);
  if (url.mode == RedisUrl::Mode::kSentinel) {
    auto const end = std::min(path.find('/'), path.size());
    LMC_TRY_ASSIGN(url.master, decoded(path.substr(0, end), "master"));
    if (url.master.empty()) {
      return refused("the master's name is missing; expected is redis-sentinel://hosts/master");
    }
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  if (path.empty()) return std::optional<std::uint32_t>{};
  LMC_TRY_ASSIGN(auto const database, parse_database(path));
  return std::optional{database};
}

Result<void> set_verify(std::string const& value, TlsOptions& options) {
  if (value != "yes" && value != "no") return refused("verify: allowed are yes and no");
  options.verify = value == "yes";
  return {};
}

struct Query {
  std::vector<std::string> seen;
  std::optional<std::uint32_t> database;
};

Result<void> take_query_pair(std::string_view pair, bool may_quote, RedisUrl& url, Query& query) {
  auto const equals = std::min(pair.find('='), pair.size());
  std::string const key{pair.substr(0, equals)};
  constexpr std::array<std::string_view, 5> kKeys = {"ca", "cert", "key", "verify", "db"};
  if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) {
    return refused("unknown query key" + (may_quote ? " '" + key + "'" : std::string{}) +
                   "; allowed are ca, cert, key, verify and db");
  }
  if (std::find(query.seen.begin(), query.seen.end(), key) != query.seen.end()) {
    return refused("query key " + key + " is given twice");
  }
  query.seen.push_back(key);
  if (key != "db" && !url.tls) {
    return refused("query key " + key +
                   " is allowed with TLS only: rediss://, valkeys:// or "
                   "rediss-cluster://");
  }
  if (equals + 1 >= pair.size()) return refused("query key " + key + " has no value");
  LMC_TRY_ASSIGN(auto value, decoded(pair.substr(equals + 1), "query"));
  if (key == "db") {
    LMC_TRY_ASSIGN(query.database, parse_database(value));
    return {};
  }
  if (key == "verify") return set_verify(value, url.tls_options);
  auto& options = url.tls_options;
  (key == "ca"     ? options.ca_file
   : key == "cert" ? options.cert_file
                   : options.key_file) = std::move(value);
  return {};
}

Result<std::optional<std::uint32_t>> parse_query(std::string_view text, bool may_quote,
                                                 RedisUrl& url) {
  Query query;
  while (!text.empty()) {
    auto const end = std::min(text.find('&'), text.size());
    LMC_TRY(take_query_pair(text.substr(0, end), may_quote, url, query));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (!url.tls_options.key_file.empty() && url.tls_options.cert_file.empty()) {
    return refused("query key key needs cert, the certificate that it belongs to");
  }
  return query.database;
}

}  // namespace

Result<RedisUrl> parse_redis_url(std::string_view text) {
  auto const colon = text.find("://");
  if (colon == std::string_view::npos) {
    return refused("no '://' in it; expected is scheme://[user[:password]@]host[:port][/database]");
  }
  RedisUrl url;
  url.scheme = lower(text.substr(0, colon));
  LMC_TRY_ASSIGN(auto const scheme, find_scheme(url.scheme));
  url.mode = scheme.mode;
  url.tls = scheme.tls;

  bool const may_quote = text.find('@') == std::string_view::npos;
  auto rest = text.substr(colon + 3);
  if (rest.find('#') != std::string_view::npos) {
    return refused("a # is not allowed; in a password it is written %23");
  }
  auto const query_at = std::min(rest.find('?'), rest.size());
  auto const query = rest.substr(std::min(query_at + 1, rest.size()));
  rest = rest.substr(0, query_at);
  auto const path_at = std::min(rest.find('/'), rest.size());
  auto authority = rest.substr(0, path_at);
  auto const path = rest.substr(path_at);

  LMC_TRY(take_user(authority, url));
  std::optional<std::uint32_t> path_database;
  if (scheme.place == Place::kSocket) {
    if (!authority.empty() || path.size() < 2) {
      return refused("expected is unix:///path/of.sock, with three slashes");
    }
    LMC_TRY_ASSIGN(url.socket_path, decoded(path, "path"));
  } else {
    LMC_TRY(parse_hosts(authority, url));
    LMC_TRY_ASSIGN(path_database, parse_path(path, url));
  }
  LMC_TRY_ASSIGN(auto const query_database, parse_query(query, may_quote, url));
  if (path_database && query_database) {
    return refused("the database is given twice, in the path and as db");
  }
  url.database = path_database.value_or(query_database.value_or(0));
  if (url.mode == RedisUrl::Mode::kCluster && url.database != 0) {
    return refused("a cluster has database 0 only");
  }
  return url;
}

std::string RedisUrl::text() const {
  std::string out = scheme + "://";
  if (!user.empty()) out += encoded(user, "") + "@";
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    auto const& [name, port] = hosts[i];
    if (i != 0) out += ',';
    bool const v6 = name.find(':') != std::string::npos;
    out.append(v6 ? "[" : "").append(encoded(name, ":")).append(v6 ? "]:" : ":");
    out += std::to_string(port);
  }
  out += encoded(socket_path, "/");
  if (!master.empty()) out.append("/").append(encoded(master, ""));
  char separator = '?';
  auto const add = [&](char const* key, std::string const& value) {
    if (value.empty()) return;
    out += separator;
    out.append(key).append("=").append(encoded(value, "/"));
    separator = '&';
  };
  if (database != 0 && socket_path.empty()) out.append("/").append(std::to_string(database));
  if (database != 0 && !socket_path.empty()) add("db", std::to_string(database));
  add("ca", tls_options.ca_file);
  add("cert", tls_options.cert_file);
  add("key", tls_options.key_file);
  if (!tls_options.verify) add("verify", "no");
  return out;
}

}  // namespace lmcache
