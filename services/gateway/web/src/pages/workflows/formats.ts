// The formats of datasets, as docs/how-to/datasets.md tells of them.
import { words } from "../../format";
import { type Dataset, DatasetFormat, Task } from "../../gen/protos/training/v1/training_pb";

export interface Format {
  readonly format: DatasetFormat;
  readonly name: string;
  readonly task: Task;
  readonly what: string;
  /** How it lies on disk. */
  readonly example: string;
}

const IMAGE_FOLDER: Format = {
  format: DatasetFormat.IMAGE_FOLDER,
  name: "image-folder",
  task: Task.CLASSIFICATION,
  what: "One folder for each class, named after it, with images at any depth below. Folders train and val around them split it.",
  example: "digits/\n├── cat/001.jpg\n├── cat/more/002.png\n└── dog/003.png",
};

export const FORMATS: readonly Format[] = [
  IMAGE_FOLDER,
  {
    format: DatasetFormat.COCO,
    name: "coco",
    task: Task.DETECTION,
    what: "Images, and COCO's JSON with images, annotations and categories; boxes are left, top, width and height in pixels.",
    example: "street/\n├── annotations.json\n├── 001.jpg\n└── 002.jpg",
  },
  {
    format: DatasetFormat.YOLO,
    name: "yolo",
    task: Task.DETECTION,
    what: "A text file for each image with a line “class x y width height” for each object, in shares of the image. Names come from data.yaml or classes.txt.",
    example: "street/\n├── data.yaml\n├── images/001.jpg\n└── labels/001.txt",
  },
  {
    format: DatasetFormat.MASK_FOLDER,
    name: "mask-folder",
    task: Task.SEGMENTATION,
    what: "A mask for each image, of the same name and size: a PNG whose values are class numbers; 255 is not labelled. classes.txt names the classes.",
    example: "fields/\n├── classes.txt\n├── images/001.jpg\n└── masks/001.png",
  },
];

/** The format of a dataset; one of a newer platform teaches nothing that this page knows. */
export function formatOf(dataset: Pick<Dataset, "format">): Format {
  const format = dataset.format || DatasetFormat.IMAGE_FOLDER;
  return (
    FORMATS.find((one) => one.format === format) ?? {
      ...IMAGE_FOLDER,
      format,
      name: words(DatasetFormat, format),
      task: Task.UNSPECIFIED,
    }
  );
}

/** `classification`. */
export function taskName(task: Task): string {
  return task === Task.UNSPECIFIED ? "something else" : words(Task, task);
}

/** What is wrong with a location; the box itself says whether there is something. */
export function locationProblem(location: string): string {
  const typed = location.trim();
  if (typed === "") return "Say where it lies.";
  const [scheme, rest] = typed.split("://", 2);
  if (rest !== undefined) {
    if (!/^[a-z][a-z0-9+.-]*$/.test(scheme ?? "") || rest === "") return "A URL has the form s3://bucket/folder.";
    if ((rest.split("/", 1)[0] ?? "").includes("@"))
      return "Secrets have no place here; keep them in the box's own configuration.";
  } else if (!typed.startsWith("/"))
    return "Give an absolute path on the box, for example /data/digits, or a URL, for example s3://bucket/digits.";
  if ((rest ?? typed).split("/").includes("..")) return "It must not contain “..”.";
  return "";
}
