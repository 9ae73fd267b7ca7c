// printf-style text into a std::string, for messages (this toolchain has no <format>).
#pragma once

#include <string>

namespace node_mesh {

[[gnu::format(printf, 1, 2)]] std::string format_text(const char* format, ...);

}  // namespace node_mesh
