import { chooseTheme, type Theme, theme } from "../../theme";
import { RadioField } from "../../ui/fields";
import { Card } from "../../ui/layout";

const CHOICES: readonly { readonly value: Theme; readonly label: string; readonly hint?: string }[] = [
  { value: "system", label: "As this computer has it", hint: "Light by day and dark by night, where it is set so." },
  { value: "light", label: "Light" },
  { value: "dark", label: "Dark" },
];

/** Light or dark; kept in this browser. */
export function Appearance() {
  const choose = (value: string) => {
    const found = CHOICES.find((choice) => choice.value === value);
    if (found) chooseTheme(found.value);
  };
  return (
    <Card title="Appearance">
      <RadioField label="Colours of this page" value={theme.value} options={CHOICES} onChange={choose} />
    </Card>
  );
}
