#include "devices/rtc/calendar.h"

namespace node_mesh {
namespace {

constexpr std::int64_t seconds_per_day = 86400;
// Days from 0000-03-01, where leap days end each year, to 1970-01-01.
constexpr std::int64_t epoch_days = 719468;
constexpr std::int64_t days_per_era = 146097;  // 400 years

}  // namespace

std::int64_t seconds_since_1970(const CivilTime& time) {
  const std::int64_t month_from_march = (static_cast<std::int64_t>(time.month) + 9) % 12;
  const std::int64_t year = static_cast<std::int64_t>(time.year) - (time.month <= 2 ? 1 : 0);
  const std::int64_t era = (year >= 0 ? year : year - 399) / 400;
  const std::int64_t year_of_era = year - era * 400;
  const std::int64_t day_of_year = (153 * month_from_march + 2) / 5 + time.day - 1;
  const std::int64_t day_of_era =
      year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  const std::int64_t days = era * days_per_era + day_of_era - epoch_days;
  return days * seconds_per_day + time.hour * 3600 + time.minute * 60 + time.second;
}

CivilTime civil_time(std::int64_t seconds) {
  std::int64_t days = seconds / seconds_per_day;
  std::int64_t rest = seconds % seconds_per_day;
  if (rest < 0) {
    rest += seconds_per_day;
    --days;
  }
  CivilTime time;
  time.weekday = static_cast<unsigned>(((days + 4) % 7 + 7) % 7);
  const std::int64_t shifted = days + epoch_days;
  const std::int64_t era = (shifted >= 0 ? shifted : shifted - (days_per_era - 1)) / days_per_era;
  const std::int64_t day_of_era = shifted - era * days_per_era;
  const std::int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const std::int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const std::int64_t month_from_march = (5 * day_of_year + 2) / 153;
  time.day = static_cast<unsigned>(day_of_year - (153 * month_from_march + 2) / 5 + 1);
  time.month =
      static_cast<unsigned>(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
  time.year = static_cast<unsigned>(year_of_era + era * 400 + (time.month <= 2 ? 1 : 0));
  time.hour = static_cast<unsigned>(rest / 3600);
  time.minute = static_cast<unsigned>(rest / 60 % 60);
  time.second = static_cast<unsigned>(rest % 60);
  return time;
}

}  // namespace node_mesh
