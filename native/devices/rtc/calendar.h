// Civil time (Gregorian, UTC) to and from seconds since 1970, for the clock chip.
#pragma once

#include <cstdint>

namespace node_mesh {

struct CivilTime {
  unsigned second = 0, minute = 0, hour = 0;
  unsigned day = 1, month = 1;  // from 1
  unsigned year = 1970;         // 0..9999
  unsigned weekday = 4;         // 0 = Sunday
};

CivilTime civil_time(std::int64_t seconds_since_1970);
// Fields out of range carry over, as adding that many units would.
std::int64_t seconds_since_1970(const CivilTime& time);

}  // namespace node_mesh
