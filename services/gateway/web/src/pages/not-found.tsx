import { ButtonLink } from "../ui/button";
import { Head } from "../ui/layout";
import { Empty } from "../ui/note";

export function NotFound() {
  return (
    <>
      <Head title="Not found" />
      <Empty title="There is no such page" action={<ButtonLink href="/">To the trainings</ButtonLink>}>
        The address may be mistyped, or of another version of Tether.
      </Empty>
    </>
  );
}
