import { cookies } from "next/headers";
import { Dashboard } from "@/features/dashboard/Dashboard";
import { parseTheme, THEME_COOKIE } from "@/lib/theme";

export default async function Page() {
  const theme = parseTheme((await cookies()).get(THEME_COOKIE)?.value);
  return <Dashboard theme={theme} />;
}
